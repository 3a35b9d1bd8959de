/*
 * graph.h - a graph of nodes that are connected by the values they read and
 * make.
 *
 * A value is made by one node or comes from outside. Nodes, values and pools
 * are numbered from 0; a graph is built, frozen, and never changed again, so
 * any number of runs may use it.
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
	uint32_t pool; /* number of the pool whose workers run it */
	uint32_t func; /* index of the node's function in that pool */
	/* the node makes the values first_value .. first_value + nvalues - 1 */
	uint32_t first_value;
	uint32_t nvalues;
	uint32_t first_input; /* index of its inputs in the list of the graph */
	uint32_t ninputs;
	/* number of inputs that other nodes make, for which the node waits */
	uint32_t nmade;
	bool is_map; /* calls its function for each element of a list */
};

/* NULL and `err` on failure. */
struct fz_graph *fz_graph_new(struct fz_err *err);
void fz_graph_free(struct fz_graph *graph);

/* Add a value from outside. FZ_GRAPH_NONE and `err` on failure. */
uint32_t fz_graph_input(struct fz_graph *graph, struct fz_err *err);

/* Add a node without inputs. FZ_GRAPH_NONE and `err` on failure. */
uint32_t fz_graph_node(struct fz_graph *graph, uint32_t pool, uint32_t func,
    uint32_t nvalues, struct fz_err *err);

/*
 * Set the inputs of `node`, in order; once for a node. The values may be made
 * by nodes that are added later. 0, or -1 and `err`.
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

/* Whether any node has optional inputs. */
bool fz_graph_has_optional(const struct fz_graph *graph);

/*
 * Make `node` a map: it calls its function for each element of its first input,
 * a list, with the other inputs after the element. The value of the node is the
 * list of the results.
 */
void fz_graph_set_map(struct fz_graph *graph, uint32_t node);

/* End the changes and list the readers of each value. 0, or -1 and `err`. */
int fz_graph_freeze(struct fz_graph *graph, struct fz_err *err);
int fz_graph_frozen(const struct fz_graph *graph);

/*
 * Write the nodes of one cycle to `nodes`, which has room for all nodes. Each
 * feeds the next one, and the last the first. Returns their number, 0 if there
 * is no cycle, or -1 and `err`. The graph is frozen.
 */
ptrdiff_t fz_graph_cycle(
    const struct fz_graph *graph, uint32_t *nodes, struct fz_err *err);

uint32_t fz_graph_nnodes(const struct fz_graph *graph);
uint32_t fz_graph_nvalues(const struct fz_graph *graph);
const struct fz_graph_node *fz_graph_get(
    const struct fz_graph *graph, uint32_t node);
const uint32_t *fz_graph_inputs(const struct fz_graph *graph, uint32_t node);

/*
 * The `*n` nodes that read `value`, once for each input. The graph is frozen.
 */
const uint32_t *fz_graph_readers(
    const struct fz_graph *graph, uint32_t value, uint32_t *n);

/* Whether any node is a map. */
bool fz_graph_has_maps(const struct fz_graph *graph);

/* The node that makes `value`, or FZ_GRAPH_NONE. */
uint32_t fz_graph_maker(const struct fz_graph *graph, uint32_t value);

/* One more than the highest pool number of any node. */
uint32_t fz_graph_npools(const struct fz_graph *graph);

#endif
