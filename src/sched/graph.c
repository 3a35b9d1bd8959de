#include "sched/graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/vec.h"

/* A growing array of numbers, or of nodes. */
struct list {
	void *items;
	uint32_t n;
	size_t cap;
};

struct fz_graph {
	struct list nodes;  /* elements: struct fz_graph_node */
	struct list makers; /* for each value, the node that makes it */
	/* inputs of all nodes, in the order of the nodes */
	struct list inputs;
	/* whether each input is optional; inputs beyond the end are not */
	struct list optional;
	uint32_t npools;
	bool has_maps;
	/* frozen: readers[first[v] .. first[v + 1] - 1] read value v */
	uint32_t *first, *readers;
};

static void *
list_add(struct list *list, uint32_t n, size_t size, struct fz_err *err)
{
	void *items;

	if (n > FZ_GRAPH_NONE / 2 - list->n) {
		fz_err_set(err, FZ_ERR_GRAPH, "the graph is too large");
		return NULL;
	}
	items = fz_vec_room(list->items, &list->cap, list->n + n, size);
	if (items == NULL) {
		fz_err_nomem(err, "a graph");
		return NULL;
	}
	list->items = items;
	list->n += n;
	return (char *)items + (list->n - n) * size;
}

static struct fz_graph_node *
node_at(const struct fz_graph *graph, uint32_t node)
{
	return (struct fz_graph_node *)graph->nodes.items + node;
}

struct fz_graph *
fz_graph_new(struct fz_err *err)
{
	struct fz_graph *graph = calloc(1, sizeof(*graph));

	if (graph == NULL)
		fz_err_nomem(err, "a graph");
	return graph;
}

void
fz_graph_free(struct fz_graph *graph)
{
	if (graph == NULL)
		return;
	free(graph->nodes.items);
	free(graph->makers.items);
	free(graph->inputs.items);
	free(graph->optional.items);
	free(graph->first);
	free(graph->readers);
	free(graph);
}

static uint32_t
add_values(
    struct fz_graph *graph, uint32_t maker, uint32_t n, struct fz_err *err)
{
	uint32_t *p;

	if (n == 0)
		return graph->makers.n;
	p = list_add(&graph->makers, n, sizeof(*p), err);
	if (p == NULL)
		return FZ_GRAPH_NONE;
	for (uint32_t i = 0; i < n; i++)
		p[i] = maker;
	return graph->makers.n - n;
}

uint32_t
fz_graph_input(struct fz_graph *graph, struct fz_err *err)
{
	return add_values(graph, FZ_GRAPH_NONE, 1, err);
}

uint32_t
fz_graph_node(struct fz_graph *graph, uint32_t pool, uint32_t func,
    uint32_t nvalues, struct fz_err *err)
{
	struct fz_graph_node *node;
	uint32_t number = graph->nodes.n, value;

	node = list_add(&graph->nodes, 1, sizeof(*node), err);
	if (node == NULL)
		return FZ_GRAPH_NONE;
	value = add_values(graph, number, nvalues, err);
	if (value == FZ_GRAPH_NONE) {
		graph->nodes.n--;
		return FZ_GRAPH_NONE;
	}
	*node = (struct fz_graph_node){ .pool = pool,
		.func = func,
		.first_value = value,
		.nvalues = nvalues };
	if (pool >= graph->npools)
		graph->npools = pool + 1;
	return number;
}

int
fz_graph_feed(struct fz_graph *graph, uint32_t node, const uint32_t *values,
    uint32_t n, struct fz_err *err)
{
	uint32_t *p;

	if (n == 0)
		return 0;
	p = list_add(&graph->inputs, n, sizeof(*p), err);
	if (p == NULL)
		return -1;
	memcpy(p, values, n * sizeof(*p));
	node_at(graph, node)->first_input = graph->inputs.n - n;
	node_at(graph, node)->ninputs = n;
	return 0;
}

int
fz_graph_set_optional(
    struct fz_graph *graph, uint32_t node, uint32_t k, struct fz_err *err)
{
	struct list *optional = &graph->optional;
	uint32_t at = node_at(graph, node)->first_input + k;
	uint32_t n = optional->n;

	if (at >= n) {
		bool *more = list_add(optional, at + 1 - n, sizeof(*more), err);

		if (more == NULL)
			return -1;
		memset(more, false, (at + 1 - n) * sizeof(*more));
	}
	((bool *)optional->items)[at] = true;
	return 0;
}

bool
fz_graph_is_optional(
    const struct fz_graph *graph, uint32_t node, uint32_t value)
{
	const struct fz_graph_node *plan = node_at(graph, node);
	const uint32_t *inputs = fz_graph_inputs(graph, node);
	const bool *optional = graph->optional.items;

	for (uint32_t k = 0; k < plan->ninputs; k++) {
		uint32_t at = plan->first_input + k;

		if (inputs[k] == value)
			return at < graph->optional.n && optional[at];
	}
	return false;
}

bool
fz_graph_has_optional(const struct fz_graph *graph)
{
	return graph->optional.n != 0;
}

void
fz_graph_set_map(struct fz_graph *graph, uint32_t node)
{
	node_at(graph, node)->is_map = true;
	graph->has_maps = true;
}

bool
fz_graph_has_maps(const struct fz_graph *graph)
{
	return graph->has_maps;
}

/*
 * Count the readers of each value v in first[v + 2], and the inputs of each
 * node that other nodes make.
 */
static int
count_readers(struct fz_graph *graph, struct fz_err *err)
{
	for (uint32_t i = 0; i < graph->nodes.n; i++) {
		struct fz_graph_node *node = node_at(graph, i);
		const uint32_t *inputs = fz_graph_inputs(graph, i);

		node->nmade = 0;
		for (uint32_t k = 0; k < node->ninputs; k++) {
			if (inputs[k] >= graph->makers.n)
				return fz_err_set(err, FZ_ERR_GRAPH,
				    "node %u takes value %u, which does not "
				    "exist",
				    i + 1, inputs[k] + 1);
			graph->first[inputs[k] + 2]++;
			if (fz_graph_maker(graph, inputs[k]) != FZ_GRAPH_NONE)
				node->nmade++;
		}
	}
	return 0;
}

/*
 * List the readers of each value. Before: first[v + 2] is the number of readers
 * of v. Afterwards the readers of v begin at first[v], as fz_graph_readers()
 * requires.
 */
static void
fill_readers(struct fz_graph *graph)
{
	uint32_t *first = graph->first;

	/* first[v + 1] becomes the start of the readers of v */
	for (uint32_t v = 0; v < graph->makers.n; v++)
		first[v + 1] += first[v];
	/* and, while they are added, the index behind the last one */
	for (uint32_t i = 0; i < graph->nodes.n; i++) {
		const uint32_t *inputs = fz_graph_inputs(graph, i);

		for (uint32_t k = 0; k < node_at(graph, i)->ninputs; k++)
			graph->readers[first[inputs[k] + 1]++] = i;
	}
}

int
fz_graph_freeze(struct fz_graph *graph, struct fz_err *err)
{
	if (graph->readers != NULL)
		return 0;
	free(graph->first);
	graph->first =
	    calloc((size_t)graph->makers.n + 2, sizeof(*graph->first));
	graph->readers =
	    calloc((size_t)graph->inputs.n + 1, sizeof(*graph->readers));
	if (graph->first == NULL || graph->readers == NULL) {
		fz_err_nomem(err, "a graph");
		goto fail;
	}
	if (count_readers(graph, err) != 0)
		goto fail;
	fill_readers(graph);
	return 0;
fail:
	free(graph->readers);
	graph->readers = NULL;
	return -1;
}

int
fz_graph_frozen(const struct fz_graph *graph)
{
	return graph->readers != NULL;
}

/* Remove the nodes that can run. Returns how many wait for a cycle. */
static uint32_t
drop_runnable(const struct fz_graph *graph, uint32_t *waiting, uint32_t *queue)
{
	uint32_t head = 0, tail = 0;

	for (uint32_t i = 0; i < graph->nodes.n; i++) {
		waiting[i] = node_at(graph, i)->nmade;
		if (waiting[i] == 0)
			queue[tail++] = i;
	}
	while (head < tail) {
		const struct fz_graph_node *node =
		    node_at(graph, queue[head++]);

		for (uint32_t v = 0; v < node->nvalues; v++) {
			uint32_t n;
			const uint32_t *readers =
			    fz_graph_readers(graph, node->first_value + v, &n);

			for (uint32_t k = 0; k < n; k++) {
				if (--waiting[readers[k]] == 0)
					queue[tail++] = readers[k];
			}
		}
	}
	return graph->nodes.n - tail;
}

/* A node that makes an input of `node` and is not removed. */
static uint32_t
waiting_input(
    const struct fz_graph *graph, uint32_t node, const uint32_t *waiting)
{
	const uint32_t *inputs = fz_graph_inputs(graph, node);

	for (uint32_t k = 0; k < node_at(graph, node)->ninputs; k++) {
		uint32_t maker = fz_graph_maker(graph, inputs[k]);

		if (maker != FZ_GRAPH_NONE && waiting[maker] != 0)
			return maker;
	}
	return FZ_GRAPH_NONE;
}

ptrdiff_t
fz_graph_cycle(
    const struct fz_graph *graph, uint32_t *nodes, struct fz_err *err)
{
	uint32_t nnodes = graph->nodes.n, node = 0, n = 0;
	uint32_t *waiting = calloc((size_t)nnodes + 1, sizeof(*waiting));

	if (waiting == NULL)
		return fz_err_nomem(err, "a graph");
	if (drop_runnable(graph, waiting, nodes) != 0) {
		while (waiting[node] == 0)
			node++;
		/*
		 * Go back from a node that was not removed. After as many steps
		 * as the graph has nodes, the walk is inside a cycle.
		 */
		for (uint32_t i = 0; i < nnodes; i++)
			node = waiting_input(graph, node, waiting);
		nodes[n++] = node;
		while ((node = waiting_input(graph, node, waiting)) != nodes[0])
			nodes[n++] = node;
		for (uint32_t i = 0; i < n / 2; i++) {
			uint32_t other = nodes[n - 1 - i];

			nodes[n - 1 - i] = nodes[i];
			nodes[i] = other;
		}
	}
	free(waiting);
	return n;
}

uint32_t
fz_graph_nnodes(const struct fz_graph *graph)
{
	return graph->nodes.n;
}

uint32_t
fz_graph_nvalues(const struct fz_graph *graph)
{
	return graph->makers.n;
}

const struct fz_graph_node *
fz_graph_get(const struct fz_graph *graph, uint32_t node)
{
	return node_at(graph, node);
}

const uint32_t *
fz_graph_inputs(const struct fz_graph *graph, uint32_t node)
{
	return (const uint32_t *)graph->inputs.items +
	       node_at(graph, node)->first_input;
}

const uint32_t *
fz_graph_readers(const struct fz_graph *graph, uint32_t value, uint32_t *n)
{
	*n = graph->first[value + 1] - graph->first[value];
	return graph->readers + graph->first[value];
}

uint32_t
fz_graph_maker(const struct fz_graph *graph, uint32_t value)
{
	return ((const uint32_t *)graph->makers.items)[value];
}

uint32_t
fz_graph_npools(const struct fz_graph *graph)
{
	return graph->npools;
}
