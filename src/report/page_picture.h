/*
 * page_picture.h - the graph of a run as boxes in columns, for its page.
 *
 * A small graph has a box for each node. In a large graph, a box stands for all
 * nodes of one column. The column of a node is its stage; in a dag, its depth.
 */
#ifndef FZ_PAGE_PICTURE_H
#define FZ_PAGE_PICTURE_H

#include <stddef.h>
#include <stdint.h>

struct fz_buf;
struct fz_err;
struct fz_graph;
struct fz_sums;
struct fz_trace_names;

/* Maximum number of boxes, or of columns of a larger graph. */
enum { FZ_PICTURE_BOXES = 120 };

struct fz_picture {
	const struct fz_graph *graph; /* the graph, frozen and without cycles */
	struct fz_trace_names *names; /* names of the nodes */
	/* by pool: number of its stage, from 1; NULL: the graph is a dag */
	const uint32_t *layers;
	size_t npools;
};

/* Append the picture as a JSON object. 0, or -1 and `err`. */
int fz_picture_put(const struct fz_picture *picture, const struct fz_sums *sums,
    struct fz_buf *out, struct fz_err *err);

#endif
