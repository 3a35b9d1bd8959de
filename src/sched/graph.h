/*
 * graph.h - a graph of nodes, which are connected by the values that they read
 * and make.
 *
 * A value is made by one node, or comes from outside. Nodes, values and pools
 * are numbered from 0. A graph is built, then frozen, and does not change
 * afterwards. Any number of runs may therefore use it.
 */
#ifndef FZ_GRAPH_H
#define FZ_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_err;
struct fz_graph;

#define FZ_GRAPH_NONE UINT32_MAX

struct fz_graph_node {
	uint32_t pool; /* number of the pool whose workers run the node */
	uint32_t func; /* number of the node's function in that pool */
	/* number of its first value; the others follow */
	uint32_t first_value;
	uint32_t nvalues;
	uint32_t first_input; /* index of its first input in the graph's list */
	uint32_t ninputs;
	/* number of inputs that other nodes make */
	uint32_t nmade;
	bool is_map; /* the node calls its function for each list element */
};

/* Create an empty graph. NULL and `err` on failure. */
struct fz_graph *fz_graph_new(struct fz_err *err);
void fz_graph_free(struct fz_graph *graph);

/* Add a value that comes from outside. FZ_GRAPH_NONE and `err` on failure. */
uint32_t fz_graph_input(struct fz_graph *graph, struct fz_err *err);

/* Add a node that has no inputs yet. FZ_GRAPH_NONE and `err` on failure. */
uint32_t fz_graph_node(struct fz_graph *graph, uint32_t pool, uint32_t func,
    uint32_t nvalues, struct fz_err *err);

/*
 * Set the inputs of `node`, in order. Call this only once for a node. The nodes
 * that make the values may be added later. 0, or -1 and `err`.
 */
int fz_graph_feed(struct fz_graph *graph, uint32_t node, const uint32_t *values,
    uint32_t n, struct fz_err *err);

/*
 * Let `node` run without its input number `k`, from 0, if the maker of that
 * input fails. Call it after fz_graph_feed(). 0, or -1 and `err`.
 */
int fz_graph_set_optional(
    struct fz_graph *graph, uint32_t node, uint32_t k, struct fz_err *err);

/* Whether `value` is an optional input of `node`. */
bool fz_graph_is_optional(
    const struct fz_graph *graph, uint32_t node, uint32_t value);

/* Whether any node has an optional input. */
bool fz_graph_has_optional(const struct fz_graph *graph);

/*
 * Make `node` a map. Its first input is a list. It calls its function for each
 * element, with the other inputs as further arguments. The value of the node is
 * the list of the results.
 */
void fz_graph_set_map(struct fz_graph *graph, uint32_t node);

/* Freeze the graph, and list the readers of each value. 0, or -1 and `err`. */
int fz_graph_freeze(struct fz_graph *graph, struct fz_err *err);
int fz_graph_frozen(const struct fz_graph *graph);

/*
 * Write the nodes of one cycle of a frozen graph to `nodes`, which has room for
 * all nodes. Each makes an input of the next, the last one of the first.
 * Returns their number; 0: no cycle; -1 and `err` on failure.
 */
ptrdiff_t fz_graph_cycle(
    const struct fz_graph *graph, uint32_t *nodes, struct fz_err *err);

uint32_t fz_graph_nnodes(const struct fz_graph *graph);
uint32_t fz_graph_nvalues(const struct fz_graph *graph);
const struct fz_graph_node *fz_graph_get(
    const struct fz_graph *graph, uint32_t node);
const uint32_t *fz_graph_inputs(const struct fz_graph *graph, uint32_t node);

/* The `*n` readers of `value` in a frozen graph, one entry for each input. */
const uint32_t *fz_graph_readers(
    const struct fz_graph *graph, uint32_t value, uint32_t *n);

/* Whether any node is a map. */
bool fz_graph_has_maps(const struct fz_graph *graph);

/* The node that makes `value`; FZ_GRAPH_NONE if it comes from outside. */
uint32_t fz_graph_maker(const struct fz_graph *graph, uint32_t value);

/* 1 + the highest pool number among the nodes. */
uint32_t fz_graph_npools(const struct fz_graph *graph);

#endif
