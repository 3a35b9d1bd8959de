#include "report/page.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "report/page_spans.h"
#include "report/page_sums.h"
#include "report/page_text.h"
#include "report/page_times.h"
#include "trace/job_event.h"
#include "trace/trace.h"
#include "trace/trace_format.h"

/* The stage whose workers were busy for the largest share of the run. */
struct busiest {
	/* number of the group; FZ_SUMS_NONE: there are no calls */
	uint32_t group;
	size_t workers;
	double share;
};

/* Find the busiest stage. 0, or -1: there is no memory. */
static int
find_busiest(const struct fz_sums *s, struct busiest *busiest)
{
	*busiest = (struct busiest){ .group = FZ_SUMS_NONE };
	for (uint32_t i = 0; i < s->ngroups; i++) {
		size_t workers = fz_sums_at_once(s, i);
		double share = 0;

		if (workers == 0)
			return -1;
		if (s->total.wall != 0)
			share = (double)s->groups[i].busy / (double)workers /
				(double)s->total.wall;
		if (busiest->group == FZ_SUMS_NONE || share > busiest->share)
			*busiest = (struct busiest){ i, workers, share };
	}
	return 0;
}

static size_t
count_nodes(const struct fz_sums *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nworkers; i++) {
		size_t k = 0;

		if (s->workers[i].node == NULL)
			continue;
		while (s->workers[k].node != s->workers[i].node)
			k++;
		n += k == i;
	}
	return n;
}

static void
put_group_name(struct fz_buf *out, const struct fz_sums_group *group)
{
	fz_page_put_string(out, group->name, group->len, FZ_PAGE_NAME);
}

/* Append the busiest stage. 0, or -1: there is no memory. */
static int
put_busiest(const struct fz_sums *s, struct fz_buf *out)
{
	struct busiest busiest;
	char share[32];

	if (find_busiest(s, &busiest) != 0)
		return -1;
	if (busiest.group == FZ_SUMS_NONE)
		return 0;
	fz_page_put(out, ",\"busiest\":{\"name\":");
	put_group_name(out, &s->groups[busiest.group]);
	fz_page_put_member(out, ",\"workers\":", busiest.workers);
	/* no %f: printf would use the decimal point of the locale */
	snprintf(share, sizeof(share), ",\"share\":%u.%06u",
	    (unsigned)busiest.share,
	    (unsigned)((busiest.share - (unsigned)busiest.share) * 1e6));
	fz_page_put(out, share);
	fz_page_put(out, "}");
	return 0;
}

/* Append the sums of the run. 0, or -1: there is no memory. */
static int
put_summary(const struct fz_sums *s, struct fz_buf *out)
{
	const struct fz_sums_total *t = &s->total;
	size_t at_once = fz_sums_at_once(s, FZ_SUMS_NONE);

	if (at_once == 0)
		return -1;
	fz_page_put_member(out, "\"summary\":{\"calls\":", t->calls);
	fz_page_put_member(out, ",\"busy\":", t->busy);
	fz_page_put_member(out, ",\"wall\":", t->wall);
	fz_page_put_member(out, ",\"failed\":", t->failed);
	fz_page_put_member(out, ",\"cancelled\":", t->cancelled);
	fz_page_put_member(out, ",\"retries\":", t->retries);
	fz_page_put_member(out, ",\"cached\":", t->cached);
	fz_page_put_member(out, ",\"cpu\":", t->cpu);
	fz_page_put_member(out, ",\"sent\":", t->sent);
	fz_page_put_member(out, ",\"received\":", t->received);
	fz_page_put_member(out, ",\"peak\":", t->peak);
	fz_page_put_member(out, ",\"workers\":", s->nworkers);
	fz_page_put_member(out, ",\"nodes\":", count_nodes(s));
	fz_page_put_member(out, ",\"at_once\":", at_once);
	if (s->most != FZ_SUMS_NONE) {
		const struct fz_sums_function *f = &s->functions[s->most];

		fz_page_put_member(out, ",\"most\":{\"total\":", f->total);
		fz_page_put_member(out, ",\"calls\":", f->calls);
		fz_page_put(out, ",");
		fz_page_put_names(out, f->name);
		fz_page_put(out, "}");
	}
	if (put_busiest(s, out) != 0)
		return -1;
	fz_page_put(out, "}");
	return 0;
}

static void
put_groups(const struct fz_sums *s, struct fz_buf *out)
{
	fz_page_put(out, ",\"groups\":[");
	for (size_t i = 0; i < s->ngroups; i++) {
		fz_page_put(out, i == 0 ? "" : ",");
		put_group_name(out, &s->groups[i]);
	}
	fz_page_put(out, "]");
}

static void
put_worker_name(struct fz_buf *out, const struct fz_sums_worker *w)
{
	fz_page_put_number(out, (uint64_t)w->pid);
	if (w->node == NULL)
		return;
	fz_page_put(out, " on ");
	fz_page_put_text(out, w->node, strlen(w->node), FZ_PAGE_NAME);
}

/* Append the JSON members that both tables of calls have. */
static void
put_call(const struct fz_sums *s, size_t record, struct fz_buf *out)
{
	const struct fz_job_event *e = fz_trace_get(s->trace, record);
	const struct fz_sums_worker *w = fz_sums_worker_of(s, record);

	fz_page_put_names(out, e->name);
	fz_page_put_known(out, ",\"item\":", e->item);
	fz_page_put_known(out, ",\"index\":", e->first);
	fz_page_put_known(out, ",\"attempt\":", e->attempt);
	if (w == NULL)
		return;
	fz_page_put(out, ",\"worker\":\"");
	put_worker_name(out, w);
	fz_page_put(out, "\"");
}

static void
put_slowest(const struct fz_sums *s, struct fz_buf *out)
{
	fz_page_put(out, ",\"slowest\":[");
	for (size_t i = 0; i < s->nslowest; i++) {
		int64_t at, length, took;

		fz_sums_when(s, s->slowest[i], &at, &length, &took);
		fz_page_put_member(
		    out, i == 0 ? "{\"took\":" : ",{\"took\":", (uint64_t)took);
		fz_page_put_member(out, ",\"at\":", at > 0 ? (uint64_t)at : 0);
		fz_page_put(out, ",");
		put_call(s, s->slowest[i], out);
		fz_page_put(out, "}");
	}
	fz_page_put(out, "]");
}

static size_t
nfailures_shown(const struct fz_sums *s)
{
	return s->nfailures < FZ_SUMS_FAILURES ? s->nfailures
					       : FZ_SUMS_FAILURES;
}

static void
put_failures(const struct fz_sums *s, struct fz_buf *out)
{
	fz_page_put(out, ",\"failures\":[");
	for (size_t i = 0; i < nfailures_shown(s); i++) {
		const struct fz_job_event *e =
		    fz_trace_get(s->trace, s->failures[i]);

		fz_page_put(out, i == 0 ? "{" : ",{");
		put_call(s, s->failures[i], out);
		fz_page_put(out, ",\"event\":\"");
		fz_page_put(out, fz_trace_word(e));
		fz_page_put(out, "\",\"error\":\"");
		fz_page_put(
		    out, e->err != FZ_ERR_NONE
			     ? fz_err_kind_name((enum fz_err_kind)e->err)
			     : "error");
		fz_page_put(out, "\",\"message\":");
		fz_page_put_string(out, e->text != NULL ? e->text : "",
		    e->text != NULL ? e->ntext : 0, FZ_PAGE_MESSAGE);
		fz_page_put(out, "}");
	}
	fz_page_put(out, "]");
}

static void
put_histogram(const struct fz_times *times, uint32_t group, bool is_first,
    struct fz_buf *out)
{
	uint64_t counts[FZ_TIMES_BINS];
	unsigned first, end;

	fz_times_bins(times, group, counts, &first, &end);
	fz_page_put_member(
	    out, is_first ? "{\"group\":" : ",{\"group\":", group);
	fz_page_put_member(out, ",\"first\":", first);
	fz_page_put(out, ",\"counts\":[");
	for (unsigned i = first; i < end; i++)
		fz_page_put_member(out, i == first ? "" : ",", counts[i]);
	fz_page_put_member(
	    out, "],\"median\":", fz_times_quantile(times, group, 50));
	fz_page_put_member(
	    out, ",\"p95\":", fz_times_quantile(times, group, 95));
	fz_page_put(out, "}");
}

/* Append the histograms of all groups. 0, or -1: there is no memory. */
static int
put_histograms(const struct fz_sums *s, struct fz_buf *out)
{
	struct fz_times times;

	if (fz_times_of_groups(&times, s) != 0)
		return -1;
	fz_page_put(out, ",\"histograms\":[");
	for (uint32_t i = 0; i < s->ngroups; i++)
		put_histogram(&times, i, i == 0, out);
	fz_page_put(out, "]");
	fz_times_fini(&times);
	return 0;
}

static void
put_function(const struct fz_sums_function *f, uint64_t p95, struct fz_buf *out)
{
	fz_page_put_names(out, f->name);
	fz_page_put_member(out, ",\"calls\":", f->calls);
	fz_page_put_member(out, ",\"total\":", f->total);
	fz_page_put_member(
	    out, ",\"mean\":", f->calls != 0 ? f->total / f->calls : 0);
	fz_page_put_member(out, ",\"p95\":", p95);
	fz_page_put_member(out, ",\"max\":", f->max);
	fz_page_put_member(out, ",\"cpu\":", f->cpu);
	fz_page_put_member(out, ",\"retries\":", f->retries);
	fz_page_put_member(out, ",\"failed\":", f->failed);
	fz_page_put_member(out, ",\"sent\":", f->sent);
	fz_page_put_member(out, ",\"received\":", f->received);
	fz_page_put_member(out, ",\"peak\":", f->peak);
}

/* Append the rows of the table of functions. 0, or -1: there is no memory. */
static int
put_rows(struct fz_sums *s, const struct fz_time *rows, struct fz_buf *out)
{
	size_t n = s->nfunctions < FZ_SUMS_ROWS ? s->nfunctions : FZ_SUMS_ROWS;
	struct fz_times times;

	for (size_t i = 0; i < n; i++)
		s->functions[rows[i].key].is_shown = true;
	if (fz_times_of_functions(&times, s) != 0)
		return -1;
	fz_page_put(out, ",\"functions\":[");
	for (size_t i = 0; i < n; i++) {
		uint32_t number = rows[i].key;
		const struct fz_sums_function *f = &s->functions[number];

		fz_page_put(out, i == 0 ? "{" : ",{");
		put_function(f,
		    f->nspans > 1 ? fz_times_quantile(&times, number, 95)
				  : f->max,
		    out);
		fz_page_put(out, "}");
	}
	fz_page_put(out, "]");
	fz_times_fini(&times);
	return 0;
}

/* Append the functions, those with the largest total time first. */
static int
put_functions(struct fz_sums *s, struct fz_buf *out)
{
	struct fz_time *rows = malloc((s->nfunctions + 1) * sizeof(*rows));
	uint64_t most =
	    s->most != FZ_SUMS_NONE ? s->functions[s->most].total : 0;
	int status = -1;

	if (rows == NULL)
		return -1;
	/*
	 * fz_times_sort() sorts upwards, so subtract each total time from the
	 * maximum: the largest total time then comes first.
	 */
	for (size_t i = 0; i < s->nfunctions; i++)
		rows[i] = (struct fz_time){ .key = (uint32_t)i,
			.took = most - s->functions[i].total };
	if (fz_times_sort(rows, s->nfunctions) == 0)
		status = put_rows(s, rows, out);
	free(rows);
	return status;
}

/*
 * Append the label of a worker. It begins with the name of a stage if the
 * worker worked for that stage only.
 */
static void
put_label(
    const struct fz_sums *s, const struct fz_sums_worker *w, struct fz_buf *out)
{
	const struct fz_sums_group *group = &s->groups[w->group];

	fz_page_put(out, "\"");
	if (!w->is_mixed && !group->is_dag) {
		fz_page_put_text(out, group->name, group->len, FZ_PAGE_NAME);
		fz_page_put(out, " ");
	}
	put_worker_name(out, w);
	fz_page_put(out, "\"");
}

static void
put_span(const struct fz_sums_span *span, bool is_first, struct fz_buf *out)
{
	fz_page_put_member(
	    out, is_first ? "[" : ",[", span->at > 0 ? (uint64_t)span->at : 0);
	fz_page_put_member(out, ",", (uint64_t)span->length);
	fz_page_put_member(out, ",", span->group);
	fz_page_put_member(out, ",", span->failed);
	fz_page_put_member(out, ",", span->n);
	fz_page_put(out, "]");
}

static void
put_workers(
    const struct fz_sums *s, const struct fz_spans *spans, struct fz_buf *out)
{
	fz_page_put(out, ",\"workers\":[");
	for (size_t i = 0; i < spans->nworkers; i++) {
		const struct fz_spans_worker *w = &spans->workers[i];

		fz_page_put(out, i == 0 ? "{\"name\":" : ",{\"name\":");
		put_label(s, &s->workers[w->worker], out);
		fz_page_put(out, ",\"spans\":[");
		for (size_t k = 0; k < w->n && k < FZ_SPANS_MOST; k++)
			put_span(&spans->list[w->from + k], k == 0, out);
		fz_page_put(out, "]}");
	}
	fz_page_put(out, "]");
}

/* Append the note below the timeline, which says what the timeline omits. */
static void
put_timeline_note(
    const struct fz_sums *s, const struct fz_spans *spans, struct fz_buf *out)
{
	bool cut = s->nworkers > FZ_SPANS_WORKERS;

	fz_page_put(out, ",\"notes\":{\"timeline\":\"");
	if (cut) {
		fz_page_put_member(out, "The first ", FZ_SPANS_WORKERS);
		fz_page_put_member(out, " of ", s->nworkers);
		fz_page_put(out, " workers.");
	}
	if (spans->gap > 0) {
		fz_page_put_member(out,
		    cut ? " Calls of one stage less than "
			: "Calls of one stage less than ",
		    (uint64_t)spans->gap);
		fz_page_put(out, " µs apart are drawn as one.");
	}
	fz_page_put(out, "\"");
}

static void
put_notes(const struct fz_sums *s, struct fz_buf *out)
{
	fz_page_put(out, ",\"functions\":\"");
	if (s->nfunctions > FZ_SUMS_ROWS) {
		fz_page_put_member(out, "The ", FZ_SUMS_ROWS);
		fz_page_put_member(
		    out, " functions that took most time, of ", s->nfunctions);
		fz_page_put(out, ".");
	}
	fz_page_put(out, "\"");
	if (s->nfailures <= FZ_SUMS_FAILURES)
		return;
	fz_page_put_member(out, ",\"failures\":\"The first ", FZ_SUMS_FAILURES);
	fz_page_put_member(out, " of ", s->nfailures);
	fz_page_put(out, ".\"");
}

int
fz_page_put_sums(struct fz_sums *s, struct fz_buf *out, struct fz_err *err)
{
	struct fz_spans spans = { 0 };
	int status = 0;

	if (put_summary(s, out) != 0)
		return fz_err_nomem(err, "the page of a run");
	put_groups(s, out);
	put_slowest(s, out);
	put_failures(s, out);
	if (put_histograms(s, out) != 0 || put_functions(s, out) != 0 ||
	    fz_spans_init(&spans, s) != 0)
		status = fz_err_nomem(err, "the page of a run");
	if (status == 0) {
		put_workers(s, &spans, out);
		put_timeline_note(s, &spans, out);
		put_notes(s, out);
	}
	fz_spans_fini(&spans);
	return status;
}
