/*
 * The data of the page of a run: sums, quantiles, the functions that took most
 * time, merged spans, pictures, names of any bytes.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "report/page.h"
#include "report/page_picture.h"
#include "report/page_sums.h"
#include "report/page_text.h"
#include "sched/graph.h"
#include "trace/job_event.h"
#include "trace/trace.h"

struct bench {
	struct fz_loop *loop;
	struct fz_trace *trace;
	struct fz_trace_names *names;
	int64_t now_ns; /* end of the last call; the next call begins then */
	struct fz_sums sums;
	struct fz_buf out;
};

static struct fz_trace_text
text(const char *s)
{
	return (struct fz_trace_text){ s, s != NULL ? strlen(s) : 0 };
}

static void
set_up(struct bench *b)
{
	struct fz_err err = { 0 };
	struct fz_trace_opts opts = { .keeps = true };

	*b = (struct bench){ .now_ns = 1000000000 };
	opts.loop = b->loop = fz_loop_new(&err);
	b->trace = fz_trace_new(&opts, &err);
	b->names = fz_trace_names_new(&err);
	assert_true(b->trace != NULL && b->names != NULL);
	fz_buf_init(&b->out);
}

static void
tear_down(struct bench *b)
{
	fz_sums_fini(&b->sums);
	fz_buf_fini(&b->out);
	fz_trace_names_unref(b->names);
	fz_trace_unref(b->trace);
	fz_loop_free(b->loop);
}

static void
add_name(struct bench *b, const char *stage, const char *name)
{
	assert_int_equal(
	    fz_trace_names_add(b->names, text(stage), text(name), NULL), 0);
}

/* Add an event with name `i`; a call by `pid` takes `us` microseconds. */
static struct fz_job_event *
add_event(struct bench *b, enum fz_job_event_kind kind, size_t i, pid_t pid,
    int64_t us)
{
	struct fz_job_event event, *record;

	fz_job_event_init(&event, kind, 0, 1, pid);
	event.took_ns = us * 1000;
	event.ended_ns = b->now_ns += us * 1000;
	event.attempt = 1;
	event.exitcode = -1;
	record = fz_trace_add(b->trace, &event, b->names);
	assert_non_null(record);
	record->name = fz_trace_name(b->names, i);
	return record;
}

static void
add(struct bench *b, size_t i, int64_t us)
{
	add_event(b, FZ_JOB_EVENT_DONE, i, 1, us);
}

static void
make_page(struct bench *b)
{
	struct fz_err err = { 0 };

	assert_int_equal(fz_sums_init(&b->sums, b->trace, &err), 0);
	assert_int_equal(fz_page_put_sums(&b->sums, &b->out, &err), 0);
	fz_buf_put(&b->out, "", 1);
	assert_false(b->out.failed);
}

static void
assert_has(const struct bench *b, const char *part)
{
	if (strstr((const char *)b->out.data, part) == NULL)
		fail_msg("%s is not in %s", part, b->out.data);
}

static size_t
count(const struct bench *b, const char *part)
{
	size_t n = 0;
	const char *at = (const char *)b->out.data;

	for (; (at = strstr(at, part)) != NULL; at++)
		n++;
	return n;
}

static void
test_page_quantiles_are_those_of_all_calls(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b);
	add_name(&b, NULL, "f");
	for (int i = 1; i <= 100; i++)
		add(&b, 0, (i * 37) % 100 + 1); /* 1 to 100 in some order */
	make_page(&b);
	assert_has(&b, "\"name\":\"f\",\"calls\":100,\"total\":5050,"
		       "\"mean\":50,\"p95\":95,\"max\":100,");
	assert_has(&b, "{\"group\":0,\"first\":0,"
		       "\"counts\":[1,2,4,8,16,32,37],"
		       "\"median\":50,\"p95\":95}");
	assert_has(&b, "\"groups\":[\"dag\"]");
	assert_has(
	    &b, "\"most\":{\"total\":5050,\"calls\":100,\"name\":\"f\"}");
	assert_int_equal(b.sums.nslowest, FZ_SUMS_SLOWEST);
	tear_down(&b);
}

static void
test_page_quantiles_of_few_calls(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b);
	add_name(&b, NULL, "once");
	add_name(&b, NULL, "often");
	add(&b, 0, 7);
	for (int i = 0; i < 4; i++)
		add(&b, 1, i < 3 ? 7 : 9);
	make_page(&b);
	assert_has(&b, "\"name\":\"once\",\"calls\":1,\"total\":7,\"mean\":7,"
		       "\"p95\":7,\"max\":7");
	assert_has(&b, "\"name\":\"often\",\"calls\":4,\"total\":30,\"mean\":7,"
		       "\"p95\":9,\"max\":9");
	tear_down(&b);
}

static void
test_page_has_the_functions_that_took_most_time(void **state)
{
	struct bench b;
	char name[16];

	(void)state;
	set_up(&b);
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		add_name(&b, NULL, name);
		add(&b, (size_t)i, (i * 37) % 2000);
	}
	make_page(&b);
	/* 50 of these functions are also in the table of the slowest calls */
	assert_int_equal(count(&b, "\"p95\":"), 600 + 1);
	assert_has(&b, "\"functions\":[{\"name\":\"f1027\",\"calls\":1,"
		       "\"total\":1999,");
	assert_int_equal(count(&b, ",\"total\":1400,"), 1);
	assert_int_equal(count(&b, ",\"total\":1399,"), 0);
	assert_has(&b, "The 600 functions that took most time, of 2000.");
	assert_has(&b, "\"summary\":{\"calls\":2000,");
	tear_down(&b);
}

static void
test_page_equal_names_are_one_function(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b);
	add_name(&b, "s", "f");
	add_name(&b, "s", "f");
	add_name(&b, "t", "f");
	add_name(&b, NULL, "f");
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 4; i++)
			add(&b, i, 5);
	}
	make_page(&b);
	assert_int_equal(b.sums.nfunctions, 3);
	assert_has(&b, "\"stage\":\"s\",\"name\":\"f\",\"calls\":6,");
	assert_has(&b, "\"stage\":\"t\",\"name\":\"f\",\"calls\":3,");
	assert_has(&b, "\"groups\":[\"s\",\"t\",\"dag\"]");
	tear_down(&b);
}

static void
test_page_counts_what_failed(void **state)
{
	struct bench b;
	struct fz_job_event *record;

	(void)state;
	set_up(&b);
	add_name(&b, "s", "f");
	add_event(&b, FZ_JOB_EVENT_RETRY, 0, 3, 5)->err = FZ_ERR_TIMEOUT;
	record = add_event(&b, FZ_JOB_EVENT_FAILED, 0, 3, 5);
	record->item = 4;
	add_event(&b, FZ_JOB_EVENT_FAILED, 0, 0, 0)->err = FZ_ERR_CANCELLED;
	add_event(&b, FZ_JOB_EVENT_CACHED, 0, 0, 0);
	add_event(&b, FZ_JOB_EVENT_DONE, 0, 0, 50); /* a map as a whole */
	for (int i = 0; i < 120; i++)
		add_event(&b, FZ_JOB_EVENT_RETRY, 0, 3, 1);
	make_page(&b);
	assert_has(&b, "\"failed\":1,\"cancelled\":1,\"retries\":121,"
		       "\"cached\":1,");
	assert_has(&b, "\"summary\":{\"calls\":122,\"busy\":130,");
	assert_has(&b, "\"attempt\":1,\"worker\":\"3\",\"event\":\"retry\","
		       "\"error\":\"timeout\",\"message\":\"\"}");
	assert_has(&b, "\"item\":4,\"attempt\":1,\"worker\":\"3\","
		       "\"event\":\"failed\",\"error\":\"error\"");
	assert_has(&b, "\"failures\":\"The first 100 of 122.\"");
	tear_down(&b);
}

static void
test_page_workers_and_groups(void **state)
{
	static const char node[] = "host";
	struct bench b;
	char name[16];

	(void)state;
	set_up(&b);
	for (int i = 0; i < 70; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		add_name(&b, name, "f");
		add_event(&b, FZ_JOB_EVENT_DONE, (size_t)i, 1 + i % 2, 10);
	}
	add_event(&b, FZ_JOB_EVENT_DONE, 5, 9, 10)->node = node;
	for (pid_t pid = 1000; pid < 1300; pid++)
		add_event(&b, FZ_JOB_EVENT_DONE, 0, pid, 10);
	make_page(&b);
	assert_int_equal(b.sums.ngroups, 61);
	assert_has(&b, "\"s59\",\"others\"]");
	assert_int_equal(b.sums.nworkers, 303);
	assert_has(&b, "\"workers\":303,\"nodes\":1,\"at_once\":2,");
	assert_has(&b, "{\"name\":\"1\",\"spans\":[[0,10,0,0,1],");
	assert_has(&b, "{\"name\":\"s5 9 on host\",");
	assert_has(&b, "{\"name\":\"s0 1000\",");
	assert_has(&b, "The first 200 of 303 workers.");
	tear_down(&b);
}

static void
test_page_merges_spans(void **state)
{
	struct bench b;
	const char *at;
	unsigned long calls = 0;
	size_t n = 0;

	(void)state;
	set_up(&b);
	add_name(&b, "s", "f");
	for (int i = 0; i < 100000; i++) {
		add(&b, 0, 2);
		b.now_ns += i % 100 == 0 ? 100000 : 1000;
	}
	make_page(&b);
	at = strstr((const char *)b.out.data, "\"spans\":[");
	assert_non_null(at);
	for (; (at = strstr(at, ",0,0,")) != NULL; at++, n++)
		calls += strtoul(at + 5, NULL, 10);
	assert_int_equal(calls, 100000);
	assert_true(n > 100 && n <= 4000);
	assert_has(&b, "µs apart are drawn as one.");
	assert_true(b.out.len < 200000);
	tear_down(&b);
}

/* A chain of `n` nodes and one that reads the first and the last one. */
static struct fz_graph *
chain_graph(uint32_t n)
{
	struct fz_graph *graph = fz_graph_new(NULL);
	uint32_t first = FZ_GRAPH_NONE, value = FZ_GRAPH_NONE;

	assert_non_null(graph);
	for (uint32_t i = 0; i <= n; i++) {
		uint32_t node = fz_graph_node(graph, 0, 0, 1, NULL);
		uint32_t inputs[] = { value, first };

		assert_int_equal(fz_graph_feed(graph, node, inputs,
				     i == 0  ? 0
				     : i < n ? 1
					     : 2,
				     NULL),
		    0);
		value = fz_graph_get(graph, node)->first_value;
		if (i == 0)
			first = value;
	}
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	return graph;
}

static void
put_chain(struct bench *b, uint32_t n, const uint32_t *layers)
{
	struct fz_picture picture = {
		.names = b->names, .layers = layers, .npools = 1
	};
	struct fz_graph *graph = chain_graph(n);

	picture.graph = graph;
	assert_int_equal(fz_sums_init(&b->sums, b->trace, NULL), 0);
	assert_int_equal(fz_picture_put(&picture, &b->sums, &b->out, NULL), 0);
	fz_buf_put(&b->out, "", 1);
	fz_graph_free(graph);
}

static void
test_page_a_small_graph_has_a_box_for_each_node(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b);
	add_name(&b, NULL, "a");
	add_name(&b, NULL, "b");
	add_name(&b, NULL, "c");
	add(&b, 0, 5);
	add_event(&b, FZ_JOB_EVENT_FAILED, 1, 1, 5);
	put_chain(&b, 2, NULL);
	assert_string_equal((const char *)b.out.data,
	    "{\"nodes\":[{\"name\":\"a\",\"column\":0,\"state\":\"done\","
	    "\"count\":1,\"calls\":1,\"total\":5},"
	    "{\"name\":\"b\",\"column\":1,\"state\":\"failed\","
	    "\"count\":1,\"calls\":1,\"total\":5},"
	    "{\"name\":\"c\",\"column\":2,\"state\":\"none\","
	    "\"count\":1,\"calls\":0,\"total\":0}],"
	    "\"edges\":[[0,1],[0,2],[1,2]],\"note\":\"\"}");
	tear_down(&b);
}

static void
test_page_a_large_graph_has_a_box_for_each_depth(void **state)
{
	struct bench b;
	char name[16];

	(void)state;
	set_up(&b);
	for (int i = 0; i <= 240; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		add_name(&b, NULL, name);
		add(&b, (size_t)i, 1);
	}
	put_chain(&b, 240, NULL);
	assert_int_equal(count(&b, "\"state\":\"done\""), 120);
	assert_has(&b, "{\"name\":\"step 1\",\"column\":0,\"state\":\"done\","
		       "\"count\":3,\"calls\":3,\"total\":3}");
	assert_has(&b, "\"column\":119,");
	assert_has(&b, "241 functions: one box for those that are equally "
		       "deep.");
	tear_down(&b);
}

static void
test_page_the_nodes_of_a_large_stage_are_one_box(void **state)
{
	static const uint32_t layers[] = { 2 };
	struct bench b;

	(void)state;
	set_up(&b);
	for (int i = 0; i <= 200; i++)
		add_name(&b, "s", "n");
	put_chain(&b, 200, layers);
	assert_has(&b, "{\"nodes\":[{\"name\":\"s\",\"column\":1,"
		       "\"state\":\"none\",\"count\":201,");
	tear_down(&b);
}

static void
test_page_texts_are_cut_and_escaped(void **state)
{
	struct fz_buf out = FZ_BUF_INIT;
	static const struct {
		const char *bytes;
		size_t len, most;
		const char *shown;
	} cases[] = {
		{ "a<b\"\\\n\0c", 8, 20,
		    "\"a\\u003cb\\u0022\\u005c\\u000a\\u0000c\"" },
		{ "abcd", 4, 4, "\"abcd\"" },
		{ "abcde", 5, 4, "\"abcd…\"" },
		{ "éé", 4, 3, "\"é…\"" },
		{ "\xff\xc3", 2, 6, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xff\xff", 2, 5, "\"\xef\xbf\xbd…\"" },
		{ "", 0, 5, "\"\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		fz_buf_clear(&out);
		fz_page_put_string(
		    &out, cases[i].bytes, cases[i].len, cases[i].most);
		fz_buf_put(&out, "", 1);
		assert_string_equal((const char *)out.data, cases[i].shown);
	}
	fz_buf_fini(&out);
}

static void
test_page_a_run_without_calls(void **state)
{
	struct bench b;

	(void)state;
	set_up(&b);
	make_page(&b);
	assert_has(&b, "\"summary\":{\"calls\":0,\"busy\":0,\"wall\":0,");
	assert_has(&b, "\"groups\":[],\"slowest\":[],\"failures\":[],"
		       "\"histograms\":[],\"functions\":[],\"workers\":[],");
	tear_down(&b);
}

static void
test_page_without_memory_is_an_error(void **state)
{
	struct bench b;
	struct fz_graph *graph = chain_graph(2);
	unsigned n = 0, nfailed = 0;
	bool failed, lacked;

	(void)state;
	set_up(&b);
	add_name(&b, NULL, "a");
	add_name(&b, "s", "b");
	add_name(&b, NULL, "c");
	for (size_t i = 0; i < 300; i++)
		add_event(&b, FZ_JOB_EVENT_DONE, i % 2, 1 + (pid_t)i, 5);
	do {
		struct fz_picture picture = { .graph = graph,
			.names = b.names };
		struct fz_err err = { 0 };

		fz_buf_fini(&b.out);
		fz_sums_fini(&b.sums);
		b.sums = (struct fz_sums){ 0 };
		faults_at(++n);
		failed = fz_sums_init(&b.sums, b.trace, &err) != 0 ||
			 fz_picture_put(&picture, &b.sums, &b.out, &err) != 0 ||
			 fz_page_put_sums(&b.sums, &b.out, &err) != 0 ||
			 b.out.failed;
		nfailed += failed;
		lacked = faults_end();
		assert_int_equal(failed, lacked);
	} while (lacked);
	assert_true(nfailed > 10);
	fz_graph_free(graph);
	tear_down(&b);
}

int
main(void)
{
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(test_page_quantiles_are_those_of_all_calls),
		T(test_page_quantiles_of_few_calls),
		T(test_page_has_the_functions_that_took_most_time),
		T(test_page_equal_names_are_one_function),
		T(test_page_counts_what_failed),
		T(test_page_workers_and_groups),
		T(test_page_merges_spans),
		T(test_page_a_small_graph_has_a_box_for_each_node),
		T(test_page_a_large_graph_has_a_box_for_each_depth),
		T(test_page_the_nodes_of_a_large_stage_are_one_box),
		T(test_page_texts_are_cut_and_escaped),
		T(test_page_a_run_without_calls),
		T(test_page_without_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
