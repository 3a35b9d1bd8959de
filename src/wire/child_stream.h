/*
 * child_stream.h - the worker's end of a link that is one byte stream.
 *
 * The frames are the same as on pipes, but contain all values. Before an item
 * starts, the worker reads what has come, because a RECALL takes back the items
 * that are not started. Then it sends the number of the item in a STARTED
 * frame. Items that take less than half a millisecond are started several at a
 * time.
 *
 * A worker on this machine shares its mailbox with its parent, which reads
 * finished results there while a long item runs.
 *
 * A worker on a node shares its mailbox with the process there (node_jobs.h).
 * That process answers a RECALL while the worker computes, and announces items
 * that take longer than a moment. The worker starts items by the claim in the
 * mailbox.
 */
#ifndef FZ_CHILD_STREAM_H
#define FZ_CHILD_STREAM_H

#include <stdbool.h>

#include "base/err.h"

struct fz_mailbox;
struct fz_port;

/*
 * Serve calls that come from `in`, and write replies to `out`, which may be the
 * same socket. Both are blocking. `shared` is the mailbox that the parent or,
 * if `held`, the process on the node reads; NULL: there is none. Items start by
 * the claim in it only if `held`. 0, or -1 and `err`.
 */
int fz_child_stream_init(struct fz_port *port, int in, int out,
    struct fz_mailbox *shared, bool held, struct fz_err *err);

/* Write to `out` why this worker cannot start. */
void fz_child_stream_refuse(int out, enum fz_err_kind kind, const char *text);

#endif
