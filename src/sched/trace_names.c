/* strdup is not in C11. */
#define _GNU_SOURCE
#include "sched/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "sched/trace_format.h"

struct fz_trace_names {
	unsigned refs;
	size_t n;
	struct fz_trace_name list[];
};

struct fz_trace_names *
fz_trace_names_new(size_t n, struct fz_err *err)
{
	struct fz_trace_names *names =
	    calloc(1, sizeof(*names) + n * sizeof(names->list[0]));

	if (names == NULL) {
		fz_err_nomem(err, "the names of a trace");
		return NULL;
	}
	names->refs = 1;
	names->n = n;
	return names;
}

struct fz_trace_names *
fz_trace_names_ref(struct fz_trace_names *names)
{
	names->refs++;
	return names;
}

void
fz_trace_names_unref(struct fz_trace_names *names)
{
	if (names == NULL || --names->refs != 0)
		return;
	for (size_t i = 0; i < names->n; i++) {
		free(names->list[i].stage);
		free(names->list[i].name);
		free(names->list[i].json);
	}
	free(names);
}

/* Both names as members of an object; NULL without memory. */
static char *
json_of(const char *stage, const char *name)
{
	struct fz_buf out = FZ_BUF_INIT;

	if (stage != NULL) {
		fz_buf_put(&out, ",\"stage\":", 9);
		fz_trace_put_string(&out, stage);
	}
	fz_buf_put(&out, ",\"name\":", 8);
	fz_trace_put_string(&out, name);
	fz_buf_put(&out, "", 1);
	if (!out.failed)
		return (char *)out.data;
	fz_buf_fini(&out);
	return NULL;
}

int
fz_trace_names_set(struct fz_trace_names *names, size_t i, const char *stage,
    const char *name, struct fz_err *err)
{
	struct fz_trace_name *at = &names->list[i];

	at->stage = stage != NULL ? strdup(stage) : NULL;
	at->name = strdup(name);
	at->json = json_of(stage, name);
	if (at->name == NULL || at->json == NULL ||
	    (stage != NULL && at->stage == NULL))
		return fz_err_nomem(err, "the names of a trace");
	return 0;
}

const struct fz_trace_name *
fz_trace_name(const struct fz_trace_names *names, uint64_t i)
{
	return i < names->n && names->list[i].json != NULL ? &names->list[i]
							   : NULL;
}
