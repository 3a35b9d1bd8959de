#include "report/page_picture.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "report/page_sums.h"
#include "report/page_text.h"
#include "sched/graph.h"
#include "trace/trace.h"

/* States of a node. A box has the last of its nodes' states in this order. */
static const char *const states[] = { "none", "cached", "done", "retried",
	"cancelled", "failed" };

struct box {
	uint32_t node; /* the first node of the box */
	uint32_t count;
	unsigned state; /* index of `states` */
	uint64_t calls, total;
};

struct boxes {
	const struct fz_picture *picture;
	uint32_t nnodes;
	bool whole;       /* each box stands for all nodes of its column */
	uint32_t *column; /* column of each node, from 1 */
	/* index in `list` of the box of each node */
	uint32_t *box_of;
	struct box list[FZ_PICTURE_BOXES + 1];
	uint32_t n;
	/* edges[a * n + b]: whether an edge leads from box a to box b */
	bool edges[(FZ_PICTURE_BOXES + 1) * (FZ_PICTURE_BOXES + 1)];
};

static unsigned
state_of(const struct fz_sums_function *f)
{
	if (f->failed != 0)
		return 5;
	if (f->retries != 0)
		return 3;
	if (f->calls != 0)
		return 2;
	if (f->cancelled != 0)
		return 4;
	return f->cached != 0;
}

/*
 * Set the column of each node of a dag: 1 + the maximum column of the nodes
 * whose values it reads. `queue` and `missing` have room for all nodes.
 */
static void
find_depths(struct boxes *b, uint32_t *queue, uint32_t *missing)
{
	const struct fz_graph *graph = b->picture->graph;
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->nnodes; i++) {
		b->column[i] = 1;
		missing[i] = fz_graph_get(graph, i)->nmade;
		if (missing[i] == 0)
			queue[n++] = i;
	}
	for (uint32_t at = 0; at < n; at++) {
		const struct fz_graph_node *node =
		    fz_graph_get(graph, queue[at]);
		uint32_t deeper = b->column[queue[at]] + 1;

		for (uint32_t v = 0; v < node->nvalues; v++) {
			uint32_t nreaders;
			const uint32_t *readers = fz_graph_readers(
			    graph, node->first_value + v, &nreaders);

			for (uint32_t k = 0; k < nreaders; k++) {
				uint32_t reader = readers[k];

				if (b->column[reader] < deeper)
					b->column[reader] = deeper;
				if (--missing[reader] == 0)
					queue[n++] = reader;
			}
		}
	}
}

/* Set the column of each node. 0, or -1: there is no memory. */
static int
find_columns(struct boxes *b)
{
	const struct fz_picture *p = b->picture;
	uint32_t *queue;

	if (p->layers != NULL) {
		for (uint32_t i = 0; i < b->nnodes; i++) {
			uint32_t pool = fz_graph_get(p->graph, i)->pool;

			b->column[i] = pool < p->npools ? p->layers[pool] : 1;
		}
		return 0;
	}
	queue = malloc(((size_t)b->nnodes + 1) * 2 * sizeof(*queue));
	if (queue == NULL)
		return -1;
	find_depths(b, queue, queue + b->nnodes);
	free(queue);
	return 0;
}

static void
add_to_box(struct box *box, const struct fz_sums_function *f)
{
	unsigned state;

	box->count++;
	if (f == NULL)
		return;
	box->calls += f->calls;
	box->total += f->total;
	state = state_of(f);
	if (state > box->state)
		box->state = state;
}

/* Put each node into its box. The boxes are sorted by their first nodes. */
static void
fill_boxes(struct boxes *b, const struct fz_sums *sums)
{
	uint32_t number[FZ_PICTURE_BOXES + 1] = { 0 }, most = 1;

	for (uint32_t i = 0; i < b->nnodes; i++)
		most = b->column[i] > most ? b->column[i] : most;
	for (uint32_t i = 0; i < b->nnodes; i++) {
		uint32_t at = i;

		if (b->whole) {
			uint64_t columns =
			    most < FZ_PICTURE_BOXES ? most : FZ_PICTURE_BOXES;

			at = (uint32_t)((b->column[i] - 1) * columns / most);
			b->column[i] = at + 1;
		}
		if (number[at] == 0) {
			b->list[b->n].node = i;
			number[at] = ++b->n;
		}
		b->box_of[i] = number[at] - 1;
		add_to_box(&b->list[number[at] - 1],
		    fz_sums_find(sums, fz_trace_name(b->picture->names, i)));
	}
}

static void
find_edges(struct boxes *b)
{
	const struct fz_graph *graph = b->picture->graph;

	for (uint32_t i = 0; i < b->nnodes; i++) {
		const uint32_t *inputs = fz_graph_inputs(graph, i);
		uint32_t n = fz_graph_get(graph, i)->ninputs;

		for (uint32_t k = 0; k < n; k++) {
			uint32_t maker = fz_graph_maker(graph, inputs[k]);

			if (maker != FZ_GRAPH_NONE)
				b->edges[b->box_of[maker] * b->n +
					 b->box_of[i]] = true;
		}
	}
}

/*
 * Append the JSON members with the name of a box. `step` is the depth of the
 * first node of the box.
 */
static void
put_box_name(const struct boxes *b, const struct box *box, uint32_t step,
    struct fz_buf *out)
{
	const struct fz_trace_name *name =
	    fz_trace_name(b->picture->names, box->node);

	if (!b->whole) {
		fz_page_put_names(out, name);
		return;
	}
	fz_page_put(out, "\"name\":");
	if (b->picture->layers != NULL && name != NULL && name->stage != NULL) {
		fz_page_put_string(
		    out, name->stage, name->nstage, FZ_PAGE_NAME);
		return;
	}
	fz_page_put(out, "\"step ");
	fz_page_put_number(out, step);
	fz_page_put(out, "\"");
}

static void
put_boxes(const struct boxes *b, const uint32_t *steps, struct fz_buf *out)
{
	for (uint32_t i = 0; i < b->n; i++) {
		const struct box *box = &b->list[i];

		fz_page_put(out, i == 0 ? "{" : ",{");
		put_box_name(b, box, steps[i], out);
		fz_page_put_member(
		    out, ",\"column\":", b->column[box->node] - 1);
		fz_page_put(out, ",\"state\":\"");
		fz_page_put(out, states[box->state]);
		fz_page_put_member(out, "\",\"count\":", box->count);
		fz_page_put_member(out, ",\"calls\":", box->calls);
		fz_page_put_member(out, ",\"total\":", box->total);
		fz_page_put(out, "}");
	}
}

static void
put_edges(const struct boxes *b, struct fz_buf *out)
{
	bool is_first = true;

	for (uint32_t from = 0; from < b->n; from++) {
		for (uint32_t to = 0; to < b->n; to++) {
			if (from == to || !b->edges[from * b->n + to])
				continue;
			fz_page_put_member(out, is_first ? "[" : ",[", from);
			fz_page_put_member(out, ",", to);
			fz_page_put(out, "]");
			is_first = false;
		}
	}
}

static void
put_picture(struct boxes *b, const struct fz_sums *sums, struct fz_buf *out)
{
	uint32_t steps[FZ_PICTURE_BOXES + 1] = { 0 };
	const uint32_t *depth = b->column + b->nnodes + 1;

	for (uint32_t i = 0; i < b->nnodes; i++)
		b->column[b->nnodes + 1 + i] = b->column[i];
	fill_boxes(b, sums);
	for (uint32_t i = 0; i < b->n; i++)
		steps[i] = depth[b->list[i].node];
	find_edges(b);
	fz_page_put(out, "{\"nodes\":[");
	put_boxes(b, steps, out);
	fz_page_put(out, "],\"edges\":[");
	put_edges(b, out);
	fz_page_put(out, "],\"note\":\"");
	if (b->whole) {
		fz_page_put_number(out, b->nnodes);
		fz_page_put(out, " functions: one box for those that are "
				 "equally deep.");
	}
	fz_page_put(out, "\"}");
}

int
fz_picture_put(const struct fz_picture *picture, const struct fz_sums *sums,
    struct fz_buf *out, struct fz_err *err)
{
	struct boxes *b = calloc(1, sizeof(*b));
	int status = -1;

	if (b != NULL) {
		b->picture = picture;
		b->nnodes = fz_graph_nnodes(picture->graph);
		b->whole = b->nnodes > FZ_PICTURE_BOXES;
		/* one allocation for `column`, `box_of` and the depths */
		b->column =
		    malloc(((size_t)b->nnodes + 1) * 3 * sizeof(*b->column));
	}
	if (b != NULL && b->column != NULL) {
		b->box_of = b->column + 2 * ((size_t)b->nnodes + 1);
		status = find_columns(b);
	}
	if (status == 0)
		put_picture(b, sums, out);
	else
		fz_err_nomem(err, "the page of a run");
	if (b != NULL)
		free(b->column);
	free(b);
	return status;
}
