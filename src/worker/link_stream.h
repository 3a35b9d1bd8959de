/* link_stream.h - a link that is one byte stream (see link.h). */
#ifndef FZ_LINK_STREAM_H
#define FZ_LINK_STREAM_H

struct fz_engine;
struct fz_err;
struct fz_link;

/*
 * A link to a worker. Frames for the worker are written to `*out`; its replies
 * are read from `*in`. For a socket, `*in` is a duplicate of `*out`. The link
 * owns both descriptors. Returns NULL and fills `err` on failure; then the
 * caller still owns those of the two descriptors that are not -1.
 */
struct fz_link *fz_link_stream_new(
    struct fz_engine *engine, int *out, int *in, struct fz_err *err);

#endif
