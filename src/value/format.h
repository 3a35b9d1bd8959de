/*
 * format.h - the bytes of a message; doc/format.md says the same in words.
 *
 *	version flags varint(n) value*n body*
 *
 * A body belongs to a FZ_FORMAT_LATER, in the order in which these came.
 */
#ifndef FZ_FORMAT_H
#define FZ_FORMAT_H

enum {
	FZ_FORMAT_VERSION = 1,

	/* Flags. */
	FZ_FORMAT_HAS_REFS = 1,      /* FZ_FORMAT_REF occurs */
	FZ_FORMAT_HAS_FUNCTIONS = 2, /* functions, modules, globals occur */
	FZ_FORMAT_HAS_STRINGS = 4,   /* FZ_FORMAT_DEF occurs */
	FZ_FORMAT_HAS_LATER = 8,     /* FZ_FORMAT_LATER occurs */

	/* Limits. */
	FZ_FORMAT_DEPTH = 190,     /* tables nested deeper come later */
	FZ_FORMAT_NEST = 400,      /* objects and functions end here */
	FZ_FORMAT_RUN_MIN = 4,     /* shorter runs are single numbers */
	FZ_FORMAT_RUN_MAX = 65536, /* numbers in one run */
	FZ_FORMAT_BODY_MIN = 3,    /* bytes of the smallest body */

	/* Behind FZ_FORMAT_HERE; 0, 1, 2: standard input, output, error. */
	FZ_FORMAT_HERE_HANDLE = 3,    /* u32 type, u32 name, ... */
	FZ_FORMAT_HERE_NULL = 4,      /* the light userdata */
	FZ_FORMAT_HERE_VALUE = 5,     /* name of a registered value */
	FZ_FORMAT_HERE_METATABLE = 6, /* name of a registered class */

	/* As an upvalue only: one that a worker of a pool may have. */
	FZ_FORMAT_HERE_UPVALUE = 7, /* varint*2 number, version; value */
	FZ_FORMAT_HERE_KEPT = 8,    /* varint*2 number, version; u8 object */
	FZ_FORMAT_HERE_CELL = 9,    /* a value: that of the one that follows */
};

enum fz_format_tag {
	FZ_FORMAT_INT7 = 0x00, /* 0x00..0x7f: the integer itself */
	FZ_FORMAT_STR6 = 0x80, /* 0x80..0xbf: length, bytes */
	FZ_FORMAT_NIL = 0xc0,
	FZ_FORMAT_FALSE,
	FZ_FORMAT_TRUE,
	FZ_FORMAT_INT8, /* two's complement, little-endian */
	FZ_FORMAT_INT16,
	FZ_FORMAT_INT32,
	FZ_FORMAT_INT64,
	FZ_FORMAT_FLOAT,       /* IEEE 754, 8 bytes */
	FZ_FORMAT_STR8,        /* u8 length, bytes */
	FZ_FORMAT_STR32,       /* u32 length, bytes */
	FZ_FORMAT_STR64,       /* u64 length, bytes */
	FZ_FORMAT_DEF,         /* a string with tag: the next of the list */
	FZ_FORMAT_SREF8,       /* u8 place in that list */
	FZ_FORMAT_SREF32,      /* u32 place in that list */
	FZ_FORMAT_TABLE,       /* varint narr, u8 nhash, values, pairs */
	FZ_FORMAT_TABLE_WIDE,  /* varint narr, u32 nhash, values, pairs */
	FZ_FORMAT_RUN8 = 0xd0, /* u16 count - 1, raw integers */
	FZ_FORMAT_RUN16,
	FZ_FORMAT_RUN32,
	FZ_FORMAT_RUN64,
	FZ_FORMAT_RUN_FLOAT,
	FZ_FORMAT_LATER,        /* a table whose body follows */
	FZ_FORMAT_REF,          /* varint number of an object */
	FZ_FORMAT_CLASS,        /* name, table */
	FZ_FORMAT_PACKED,       /* name, plain value, body* */
	FZ_FORMAT_FUNCTION,     /* u32 length, dump, u8 n, upvalue*n */
	FZ_FORMAT_CFUNCTION,    /* module, field */
	FZ_FORMAT_MODULE,       /* name */
	FZ_FORMAT_GLOBALS,      /* the receiver's */
	FZ_FORMAT_HERE,         /* u8, see above: what the receiver has */
	FZ_FORMAT_CELL,         /* varint number of an upvalue seen before */
	FZ_FORMAT_ITEM,         /* outside messages: see items.h */
	FZ_FORMAT_SREF5 = 0xe0, /* 0xe0..0xff: place in the list of strings */
};

#endif
