/* dump_format.h - numbers of the format of lua_dump() of Lua 5.4. */
#ifndef FZ_DUMP_FORMAT_H
#define FZ_DUMP_FORMAT_H

/* Types of constants. */
enum {
	FZ_DUMP_INTEGER = 0x03,
	FZ_DUMP_NUMBER = 0x13,
	FZ_DUMP_SHORT = 0x04, /* a short string */
	FZ_DUMP_LONG = 0x14   /* a long string */
};
/* Bytes of the description of an upvalue. */
enum { FZ_DUMP_UPVALUE = 3 };

#endif
