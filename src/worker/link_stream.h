/* link_stream.h - a link that is one byte stream (see link.h). */
#ifndef FZ_LINK_STREAM_H
#define FZ_LINK_STREAM_H

struct fz_engine;
struct fz_err;
struct fz_link;

/*
 * A link to a worker that reads what is written to `*out`, and whose replies
 * are read from `*in`; a socket is both, and comes with a duplicate. The link
 * owns the descriptors. NULL and `err` on failure, then the descriptors that
 * are not -1 are still the caller's.
 */
struct fz_link *fz_link_stream_new(
    struct fz_engine *engine, int *out, int *in, struct fz_err *err);

#endif
