/*
 * trace.h - records the attempts of calls, in memory and in a file.
 *
 * Logs of events (job_event.h) add records. The loop writes them to the file
 * some time later, so that a call does not wait for the file.
 *
 * A process that is killed leaves whole lines. Each write ends at the end of a
 * line. If the kernel ends a write early because of the kill, it does so at the
 * border of a page, and no line of usual length crosses such a border. If a
 * write fails, the file ends at its last whole line, and the runs go on.
 */
#ifndef FZ_TRACE_H
#define FZ_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_blob;
struct fz_buf;
struct fz_err;
struct fz_failure;
struct fz_job_event;
struct fz_loop;
struct fz_trace;
struct fz_trace_names;

enum fz_trace_format {
	FZ_TRACE_JSONL,  /* an object on each line */
	FZ_TRACE_CHROME, /* an array of Chrome's trace events */
	FZ_TRACE_TSV     /* the job log of GNU parallel */
};

struct fz_trace_opts {
	struct fz_loop *loop; /* outlives the trace */
	/* path of the file, which is emptied; NULL: no file */
	const char *path;
	enum fz_trace_format format;
	bool keeps; /* keep the newest records for fz_trace_get() */
	/*
	 * Append the text of the encoded error of a failure. It is called when
	 * the record is added. NULL: such errors have no text.
	 */
	void (*error_text)(
	    void *ctx, struct fz_blob *value, struct fz_buf *text);
	void *ctx;
};

enum { FZ_TRACE_SHORT = 32 }; /* maximum number of bytes of short members */

/*
 * The name of the node or items of a record. It fills one cache line. The names
 * of scripts may contain zeros, so each has its length.
 */
struct fz_trace_name {
	const char *stage; /* name of its stage; NULL: none */
	const char *name;
	uint32_t nstage, nname; /* their lengths in bytes */
	/*
	 * The stage and the name as members of a JSON object, each after a
	 * comma.
	 * They are made with the name, so that a line reads this struct alone.
	 */
	uint32_t len;
	/* whether it is the name of a call of a map or a pool */
	uint32_t is_call : 1;
	/*
	 * used by a report: number of the function. An earlier report may have
	 * set it, so the report checks it.
	 */
	uint32_t number : 31;
	union {
		char few[FZ_TRACE_SHORT]; /* the members if they are short */
		const char *many;
	} members;
};

/*
 * An empty list of names, with one reference. Names are added before the first
 * run that uses the list; the list serves many runs. NULL and `err` on failure.
 */
struct fz_trace_names *fz_trace_names_new(struct fz_err *err);
struct fz_trace_names *fz_trace_names_ref(struct fz_trace_names *names);
void fz_trace_names_unref(struct fz_trace_names *names); /* may be NULL */

/* Bytes of a script, which may contain zeros. */
struct fz_trace_text {
	const char *bytes; /* bytes of the text; NULL: there is no text */
	size_t len;
};

/*
 * Add the name of the next node; `stage` may have no text. 0, or -1 and `err`.
 */
int fz_trace_names_add(struct fz_trace_names *names, struct fz_trace_text stage,
    struct fz_trace_text name, struct fz_err *err);

/* The list has the name of one call of a map or a pool. */
void fz_trace_names_set_call(struct fz_trace_names *names);

size_t fz_trace_names_count(const struct fz_trace_names *names);

/* Name `i`, from 0; NULL if there is none. */
struct fz_trace_name *fz_trace_name(struct fz_trace_names *names, uint64_t i);

/*
 * A trace with one reference. The head of the file is written at once. NULL and
 * `err` if that fails.
 */
struct fz_trace *fz_trace_new(
    const struct fz_trace_opts *opts, struct fz_err *err);
struct fz_trace *fz_trace_ref(struct fz_trace *trace);

/* Drop a reference; the last one closes the file. NULL is allowed. */
void fz_trace_unref(struct fz_trace *trace);

/*
 * Memory for the next record, so that fz_trace_add() need not copy it; valid
 * until the next call. NULL: there is none.
 */
struct fz_job_event *fz_trace_room(struct fz_trace *trace);

/*
 * Record the end of an attempt. The caller sets the name of the record, which
 * is one of `names`. NULL if the record is lost: either there is no memory,
 * which the trace counts, or the trace belongs to the parent of this process.
 */
struct fz_job_event *fz_trace_add(struct fz_trace *trace,
    const struct fz_job_event *event, struct fz_trace_names *names);

/* Do not call `error_text` again, because its context ends. */
void fz_trace_forget_texts(struct fz_trace *trace);

/* Set the text of the error of a record that was added. */
void fz_trace_add_error(struct fz_trace *trace, struct fz_job_event *record,
    const struct fz_failure *failure);

/*
 * Write all records and the end of the file, and close it. 0, or -1 and `err`
 * if the file lacks records; later calls return 0.
 */
int fz_trace_close(struct fz_trace *trace, struct fz_err *err);

/* The records that the trace keeps, from 0 on. */
size_t fz_trace_count(const struct fz_trace *trace);
const struct fz_job_event *fz_trace_get(
    const struct fz_trace *trace, size_t index);

#endif
