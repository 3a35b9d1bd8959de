/* port_ends.h - the port of a worker, and the parent's ends of its pipes. */
#ifndef PORT_ENDS_H
#define PORT_ENDS_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "shared/arena.h"
#include "wire/child_port.h"
#include "wire/wire.h"

struct port_ends {
	struct fz_port port;
	struct fz_arena *arena;         /* arena of the parent */
	struct fz_mailbox_block *block; /* the block that has the mailbox */
	struct fz_mailbox *mailbox;
	int jobs[2], results[2]; /* two pipes */
	struct fz_wire_in in;    /* reader of the results pipe */
	struct fz_buf out;       /* unwritten bytes of the jobs pipe */
};

int port_ends_setup(void **state);

int port_ends_teardown(void **state);

void put_job(
    struct port_ends *e, uint32_t seq, unsigned flags, const char *arg);

void write_jobs(struct port_ends *e);

void put_reply(
    struct port_ends *e, const struct fz_call *call, const char *value);

/* Read the next reply from the pipe; there must be one. */
void take_frame(struct port_ends *e, struct fz_frame *frame);

/* Append the frame of a chunk with `nitems` items and one part. */
void put_chunk(
    struct port_ends *e, uint32_t seq, unsigned flags, uint32_t nitems);

/* Send the result of an item: `len` bytes, all of them `byte`. */
void put_item(struct port_ends *e, uint32_t seq, char byte, size_t len);

/* Write to the room for the result of an item, but do not send it. */
void drop_item(struct port_ends *e, uint32_t seq);

void assert_items(const struct fz_frame *frame, uint32_t seq, uint32_t nitems,
    const char *bytes);

/* Enlarge the pipe, which gets values for which the arena has no room. */
void make_room(struct port_ends *e);

#endif
