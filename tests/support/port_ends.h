/* port_ends.h - a port of a worker and its parent's ends of the pipes. */
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
	struct fz_arena
	    *arena; /* in a worker: of its parent, a slice its own */
	struct fz_mailbox_block *block; /* of the mailbox */
	struct fz_mailbox *mailbox;
	int jobs[2], results[2];
	struct fz_wire_in in; /* of the results */
	struct fz_buf out;    /* of the jobs */
};

int port_ends_setup(void **state);

int port_ends_teardown(void **state);

void put_job(
    struct port_ends *e, uint32_t seq, unsigned flags, const char *arg);

void write_jobs(struct port_ends *e);

void put_reply(
    struct port_ends *e, const struct fz_call *call, const char *value);

/* The next reply in the pipe; it must be there. */
void take_frame(struct port_ends *e, struct fz_frame *frame);

/* A chunk of `nitems` items with one part. */
void put_chunk(
    struct port_ends *e, uint32_t seq, unsigned flags, uint32_t nitems);

/* An item of `len` bytes, all of them `byte`. */
void put_item(struct port_ends *e, uint32_t seq, char byte, size_t len);

void assert_items(const struct fz_frame *frame, uint32_t seq, uint32_t nitems,
    const char *bytes);

/* Values for which the arena has no room are in the pipe. */
void make_room(struct port_ends *e);

#endif
