/*
 * slot_line.h - a worker on a node asks the node's gateway for a slot.
 *
 * Workers of different submitters share the slots of the node. The line is a
 * SOCK_SEQPACKET pair. The worker asks before it starts a call, and keeps the
 * slot, also while it is idle, until the gateway asks for it:
 *
 * 	worker -> gateway	WANT number	wait for a slot
 * 	gateway -> worker	GRANT number	the worker has a slot
 * 	gateway -> worker	ASK number	another worker waits: return it
 * 	worker -> gateway	DONE number	the worker needs no slot
 *
 * A number belongs to one WANT, so a message that crosses a DONE is ignored.
 * The end of the line returns the slot, too.
 */
#ifndef FZ_SLOT_LINE_H
#define FZ_SLOT_LINE_H

#include <stdbool.h>
#include <stdint.h>

enum fz_slot_type {
	FZ_SLOT_WANT = 1,
	FZ_SLOT_GRANT,
	FZ_SLOT_ASK,
	FZ_SLOT_DONE
};

struct fz_slot_message {
	uint32_t type, number;
};

/* Send without waiting. 0, or -1 if the other end is gone. */
int fz_slot_send(int fd, enum fz_slot_type type, uint32_t number);

/*
 * Receive. Returns 1, 0 if no message has come, or -1 if the other end is gone.
 */
int fz_slot_receive(int fd, struct fz_slot_message *message);

/* The worker's end of the line. */
struct fz_slot_line {
	/*
	 * the worker's end; -1: the worker needs no slot, or the gateway is
	 * gone
	 */
	int fd;
	bool held;
	uint32_t number; /* number of the last WANT */
};

/*
 * Return the slot if the gateway has asked for it. The result is whether the
 * worker has a slot now.
 */
bool fz_slot_line_check(struct fz_slot_line *line);

/*
 * fz_slot_line_want(): ask for a slot. fz_slot_line_stop(): stop waiting for
 * the slot.
 */
void fz_slot_line_want(struct fz_slot_line *line);
void fz_slot_line_stop(struct fz_slot_line *line);

/*
 * Wait while the slot is held, until `fd` is readable. If the gateway asks for
 * the slot, return it.
 */
void fz_slot_line_wait(struct fz_slot_line *line, int fd);

#endif
