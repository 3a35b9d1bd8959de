/*
 * wire.h - frames on a pipe or another byte stream, and the values in them.
 *
 * frame  = type u8 | flags u8 | magic u16 | seq u32 | length u64 | body
 * JOB    = func u32 | nargs u32 | nvalues u32 | seed u64 | memory u64
 *          | part * nargs
 * FREE   = offset u64                  an extent of the worker that was read
 * FUNC   = number u32 | part           a function that was not inherited
 * KEEP   = entry u32 | nparts u32 | part * nparts
 *          values that the calls of a chunk share; no parts: forget them
 * SETUP  = number u32 | flags u32 | part
 *          the first frame for a program: what a forked worker inherits
 * CHUNK  = func u32 | kind u32 | nitems u32 | nparts u32 | first u64
 *          | seed u64 | memory u64 | results u64 | part * nparts
 *          has the numbers seq .. seq + nitems - 1, one for each item; of
 *          kind STEP: | (seed u64 | part * nparts) * nitems
 * RECALL = nothing                     start no more items below seq
 * RESULT = nparts u32 | part * nparts | used
 * ERROR  = kind u32 | 1 u32 | part | used   the part is an encoded table
 * ITEMS  = nitems u32 | bytes | used   results of the items from seq on
 * VALUES = nitems u32 | (used | part) * nitems      results of kind STEP
 * STORED = nitems u32 | used           the results are in the result buffer
 * STARTED  = nitems u32                seq .. seq + nitems - 1 start now
 * RECALLED = 0 u32                     no more items below seq start
 * REFUSED  = bytes                     why the worker cannot start; seq: the
 *                                      kind of the error
 * WAITING  = 0 u32                     no slot of the node is free for seq
 * JOINED   = pid u32                   a worker on a node has started
 * PRINTED  = file u32 | bytes          what the worker has printed
 * DIED     = signal u32 | exitcode u32 | text
 *                                      how the worker has ended, and why the
 *                                      process on the node has ended it, or
 *                                      nothing
 * LEAVING  = nothing                   the node leaves: send nothing more
 * used   = started u64 | took u64 | cpu u64 | peak u64     ns and bytes; only
 *          with the flag MEASURED
 * part   = length u64 | bytes          inline
 *        | length u64 + 2^63 | offset u64      in the arena
 * results = offset in the arena of the result buffer: 16 bytes for each item,
 *           where the worker stores the result if it fits; 0: none
 *
 * A link without shared memory (see link.h) has RECALL, STARTED, RECALLED,
 * REFUSED and, on a node, WAITING, and neither FREE nor STORED nor parts in the
 * arena. JOINED, PRINTED, DIED and LEAVING come from the process between a
 * worker on a node and its parent, and so do STARTED and RECALLED there.
 *
 * All numbers are little-endian. A length is checked against a limit before
 * memory is allocated.
 */
#ifndef FZ_WIRE_H
#define FZ_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fz_blob;
struct fz_err;

/* Types from RESULT on are sent by the worker, the others by its parent. */
enum fz_wire_type {
	FZ_WIRE_JOB = 1,  /* a call of a function */
	FZ_WIRE_FREE,     /* the parent has read these bytes of the worker */
	FZ_WIRE_FUNC,     /* a function to keep */
	FZ_WIRE_CHUNK,    /* a call of a function for each item */
	FZ_WIRE_RECALL,   /* start no more items below seq */
	FZ_WIRE_KEEP,     /* values for the calls of a chunk */
	FZ_WIRE_SETUP,    /* the data that a forked worker would inherit */
	FZ_WIRE_RESULT,   /* the values that the function returned */
	FZ_WIRE_ERROR,    /* why the call returned nothing */
	FZ_WIRE_ITEMS,    /* results of many calls */
	FZ_WIRE_VALUES,   /* as ITEMS; each result is a value as in a RESULT */
	FZ_WIRE_STORED,   /* as ITEMS; the results are in the result buffer */
	FZ_WIRE_STARTED,  /* these items start now */
	FZ_WIRE_RECALLED, /* the answer to RECALL */
	FZ_WIRE_REFUSED,  /* why the worker cannot start */
	FZ_WIRE_WAITING,  /* no slot of the node is free */
	FZ_WIRE_JOINED,   /* a worker on a node has started */
	FZ_WIRE_PRINTED,  /* output of the worker */
	FZ_WIRE_DIED,     /* how the worker has ended */
	FZ_WIRE_LEAVING,  /* the node leaves */
	FZ_WIRE_NTYPES
};

/* Flags of a frame. */
enum {
	FZ_WIRE_TIMED = 1, /* note the time at which the job starts */
	/*
	 * for ITEMS, VALUES, STORED: the frame is unfinished, or the process on
	 * the node sends the first items of such a frame
	 */
	FZ_WIRE_GROWS = 2,
	FZ_WIRE_MEASURED = 4 /* report the usage of the job: `used` above */
};

/* Flags in the body of SETUP. */
enum { FZ_WIRE_SPREAD = 1 }; /* calls of the worker rarely follow each other */

/* The form of the items of a chunk, and the results that are wanted. */
enum fz_wire_kind {
	/*
	 * each item is a list of arguments of a call; all its results are
	 * wanted
	 */
	FZ_WIRE_CALL,
	/* each item is the only argument of a call, which has one result */
	FZ_WIRE_MAP,
	/* each item is a table of arguments of a call, which has one result */
	FZ_WIRE_STARMAP,
	/* each item is a call with its parts, as in a JOB, with one result */
	FZ_WIRE_STEP,
	FZ_WIRE_KINDS = 3,  /* mask for the kinds above */
	FZ_WIRE_INLINE = 4, /* the first value of the part is the function */
	/* there are no parts: the worker has inherited the list */
	FZ_WIRE_INHERITED = 8,
	/*
	 * Each call gets the kept values of the entry kind >> FZ_WIRE_ENTRY
	 * after its item. With FZ_WIRE_INHERITED the first kept value is the
	 * list of the items, and each call gets the others.
	 */
	FZ_WIRE_KEPT = 16,
	FZ_WIRE_ENTRY = 8
};

#define FZ_WIRE_HEADER 16
/* maximum length of a body in bytes */
#define FZ_WIRE_MAX ((uint64_t)1 << 40)

struct fz_frame {
	enum fz_wire_type type;
	unsigned flags;
	uint32_t seq;
	const unsigned char *body;
	size_t len;
};

/*
 * Begin a frame at the end of `out`. Then append its body and end the frame.
 * Returns where it starts. Failures are sticky in the buffer.
 */
size_t fz_wire_begin(
    struct fz_buf *out, enum fz_wire_type type, unsigned flags, uint32_t seq);
void fz_wire_end(struct fz_buf *out, size_t start);

/* Append a part: the bytes themselves, or their offset in the arena. */
void fz_wire_put_bytes(struct fz_buf *out, const void *bytes, size_t len);
void fz_wire_put_offset(struct fz_buf *out, uint64_t offset, size_t len);
void fz_wire_put_blob(struct fz_buf *out, const struct fz_blob *blob);

struct fz_part {
	/* the bytes, inside the frame; NULL: they are in the arena */
	const unsigned char *bytes;
	uint64_t offset;
	size_t len;
};

/* The next part of a body. 0, or -1 if it is incomplete. */
int fz_wire_part(struct fz_reader *body, struct fz_part *part);

/* The usage of one call, or of the items of one frame. */
struct fz_used {
	/* fz_clock_ns() of the worker at the start; 0: unknown */
	int64_t started_ns;
	int64_t took_ns;
	uint64_t cpu_ns; /* processor time */
	/* peak memory of the worker so far in bytes; 0: unknown */
	uint64_t peak_rss;
	/* the part of took_ns in which the worker was initialised; 0: none */
	int64_t init_ns;
	/*
	 * for the first reply of a worker: the time that its parent took to
	 * start it; else 0. It is not in frames
	 */
	int64_t launch_ns;
};

#define FZ_WIRE_USED 40 /* bytes of a struct fz_used in a frame */

void fz_wire_store_used(unsigned char *p, const struct fz_used *used);
void fz_wire_load_used(const unsigned char *p, struct fz_used *used);

/*
 * Cut the usage off the end of the body of a reply. `*at` is set to the usage,
 * or to NULL if there is none. 0, or -1 if the body is too short.
 */
int fz_wire_cut_used(const struct fz_frame *frame, struct fz_reader *body,
    const unsigned char **at);

/* Bytes that were read from a descriptor and not processed. */
struct fz_wire_in {
	struct fz_buf buf;
	size_t at;   /* offset of the first frame that was not processed */
	size_t room; /* bytes to read at once; grows after a full read */
};

void fz_wire_in_init(struct fz_wire_in *in);
void fz_wire_in_fini(struct fz_wire_in *in);

/*
 * Read once, and drop the processed frames. Returns the number of bytes, 0 at
 * the end, or -1 with errno (EAGAIN: there are none now; ENOMEM).
 */
ptrdiff_t fz_wire_fill(struct fz_wire_in *in, int fd);

/*
 * As fz_wire_fill(), but keep the processed frames. They stay valid unless
 * `buf.data` changes.
 */
ptrdiff_t fz_wire_append(struct fz_wire_in *in, int fd);

/*
 * Get the next whole frame; it is valid until the next fill. Returns 1, 0 if
 * more bytes are needed, or -1 and `err` if the bytes are not a frame.
 */
int fz_wire_next(
    struct fz_wire_in *in, struct fz_frame *frame, struct fz_err *err);

/* As fz_wire_next(), for bytes in memory; moves `*p` past the frame. */
int fz_wire_scan(const unsigned char **p, const unsigned char *end,
    struct fz_frame *frame, struct fz_err *err);

/*
 * Read the head of a frame. `p` points to the first `have` bytes of the frame.
 * Returns 1 if they contain the head and `body` bytes of the body (the whole
 * body if that is shorter); 0 if more bytes are needed; -1 if the bytes are no
 * frame. The rest of `frame->body` may be missing.
 */
int fz_wire_head(
    const unsigned char *p, size_t have, size_t body, struct fz_frame *frame);

#endif
