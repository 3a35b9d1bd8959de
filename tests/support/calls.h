/*
 * calls.h - frames of calls for a port that the test reads, on a byte stream.
 *
 * The function is number 0, and there are no limits, seeds or result buffers.
 */
#ifndef CALLS_H
#define CALLS_H

#include <stdint.h>

struct fz_buf;
struct fz_port;

/* Append a job without arguments. */
void put_plain_job(struct fz_buf *out, uint32_t seq);

/* Append a chunk of `n` calls; the part of item i is the number i. */
void put_plain_chunk(
    struct fz_buf *out, uint32_t seq, uint32_t n, unsigned flags);

/* Append a recall: no more items below `seq` start. */
void put_plain_recall(struct fz_buf *out, uint32_t seq);

/* Free what a port has allocated, which a worker keeps until its end. */
void port_fini(struct fz_port *port);

#endif
