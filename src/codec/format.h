/*
 * format.h - the layout of a message; see doc/format.md for a description.
 *
 * 	version flags varint(n) value*n body*
 *
 * There is one body for each FZ_FORMAT_LATER, in the same order.
 */
#ifndef FZ_FORMAT_H
#define FZ_FORMAT_H

enum {
	FZ_FORMAT_VERSION = 1,
	/* bytes before the first value if there is only one */
	FZ_FORMAT_ONE_HEAD = 3,

	/* Flags. */
	FZ_FORMAT_HAS_REFS = 1,      /* FZ_FORMAT_REF occurs */
	FZ_FORMAT_HAS_FUNCTIONS = 2, /* functions, modules, globals occur */
	FZ_FORMAT_HAS_STRINGS = 4,   /* FZ_FORMAT_DEF occurs */
	FZ_FORMAT_HAS_LATER = 8,     /* FZ_FORMAT_LATER occurs */

	/* Limits. */
	FZ_FORMAT_DEPTH = 190, /* deeper tables are postponed */
	/* maximum depth of nested objects and functions */
	FZ_FORMAT_NEST = 400,
	/* minimum length of a run; fewer numbers are written one by one */
	FZ_FORMAT_RUN_MIN = 4,
	FZ_FORMAT_RUN_MAX = 65536, /* maximum number of numbers in a run */
	FZ_FORMAT_BODY_MIN = 3,    /* minimum number of bytes of a body */

	/*
	 * Kinds of objects after FZ_FORMAT_HERE; 0, 1 and 2 are standard input,
	 * output and error.
	 */
	FZ_FORMAT_HERE_HANDLE = 3,    /* u32 type, u32 name, ... */
	FZ_FORMAT_HERE_NULL = 4,      /* the light userdata NULL */
	FZ_FORMAT_HERE_VALUE = 5,     /* name of a registered value */
	FZ_FORMAT_HERE_METATABLE = 6, /* name of a registered class */

	/* Only as an upvalue: a cell that a worker of the pool may have. */
	FZ_FORMAT_HERE_UPVALUE = 7, /* varint*2 number, version; value */
	FZ_FORMAT_HERE_KEPT = 8,    /* varint*2 number, version; u8 object */
	/* as a value: the value of the cell that follows */
	FZ_FORMAT_HERE_CELL = 9,
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
	FZ_FORMAT_DEF,         /* a string that the receiver numbers */
	FZ_FORMAT_SREF8,       /* u8 number of a string */
	FZ_FORMAT_SREF32,      /* u32 number of a string */
	FZ_FORMAT_TABLE,       /* varint narr, u8 nhash, values, pairs */
	FZ_FORMAT_TABLE_WIDE,  /* varint narr, u32 nhash, values, pairs */
	FZ_FORMAT_RUN8 = 0xd0, /* u16 count - 1, raw integers */
	FZ_FORMAT_RUN16,
	FZ_FORMAT_RUN32,
	FZ_FORMAT_RUN64,
	FZ_FORMAT_RUN_FLOAT,
	FZ_FORMAT_LATER,     /* a table whose body comes later */
	FZ_FORMAT_REF,       /* varint number of an object */
	FZ_FORMAT_CLASS,     /* name, table */
	FZ_FORMAT_PACKED,    /* name, plain value, body* */
	FZ_FORMAT_FUNCTION,  /* u32 length, dump, u8 n, upvalue*n */
	FZ_FORMAT_CFUNCTION, /* module, field */
	FZ_FORMAT_MODULE,    /* name */
	FZ_FORMAT_GLOBALS,   /* the receiver's globals */
	/* u8 kind (see above) of the receiver's object */
	FZ_FORMAT_HERE,
	FZ_FORMAT_CELL,         /* varint number of an earlier upvalue */
	FZ_FORMAT_ITEM,         /* u32 length, a message of one value */
	FZ_FORMAT_SREF5 = 0xe0, /* 0xe0..0xff: number of a string */
};

#endif
