/*
 * trace.h - records the attempts of calls, in memory and in a file.
 *
 * Event logs (event_log.h) add records. The loop writes them to the file some
 * time later, so a call does not wait for the file.
 *
 * A process that is killed leaves whole lines. Each write ends at the end of a
 * line. If the kill interrupts a write, the kernel cuts the write at the border
 * of a page, and no line of at most 512 bytes crosses such a border. If a write
 * fails, the file ends at its last whole line, and the runs go on.
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
	FZ_TRACE_JSONL,  /* one JSON object on each line */
	FZ_TRACE_CHROME, /* a JSON array of events, for Chrome's trace viewer */
	FZ_TRACE_TSV /* lines in the format of the job log of GNU parallel */
};

struct fz_trace_opts {
	struct fz_loop *loop; /* the loop, which outlives the trace */
	/* path of the file; its contents are replaced; NULL: no file */
	const char *path;
	enum fz_trace_format format;
	bool keeps; /* keep the newest records in memory for fz_trace_get() */
	/*
	 * Append the text of an encoded error to `text`. Called when a record
	 * with such an error is added. NULL: encoded errors get no text.
	 */
	void (*error_text)(
	    void *ctx, struct fz_blob *value, struct fz_buf *text);
	void *ctx;
};

enum { FZ_TRACE_SHORT = 32 }; /* longest members copied as 32 bytes */

/*
 * The name of a node, or of all items of a map. The struct fills one cache
 * line. A name in a script may contain zero bytes, so its length is stored.
 */
struct fz_trace_name {
	const char *stage; /* name of the stage; NULL: none */
	const char *name;
	uint32_t nstage, nname; /* lengths of `stage` and `name` in bytes */
	/*
	 * length in bytes of `members`: the stage and the name as members of a
	 * JSON object, each after a comma. They are formatted in advance,
	 * because a line is then made from this struct alone.
	 */
	uint32_t len;
	/* whether this is the name of a call of a map or a pool */
	uint32_t is_call : 1;
	/*
	 * number of the function in a report. The report checks the number,
	 * because an earlier report may have set it.
	 */
	uint32_t number : 31;
	union {
		char few[FZ_TRACE_SHORT]; /* members if they are short */
		const char *many;
	} members;
};

/*
 * An empty list of names, with one reference, for several runs. Names must be
 * added before the first of them. NULL and `err` on failure.
 */
struct fz_trace_names *fz_trace_names_new(struct fz_err *err);
struct fz_trace_names *fz_trace_names_ref(struct fz_trace_names *names);
void fz_trace_names_unref(struct fz_trace_names *names); /* NULL is allowed */

/* A text of a script, which may contain zero bytes. */
struct fz_trace_text {
	const char *bytes; /* bytes of the text; NULL: no text */
	size_t len;
};

/* Add the name of the next node; `stage` may be empty. 0, or -1 and `err`. */
int fz_trace_names_add(struct fz_trace_names *names, struct fz_trace_text stage,
    struct fz_trace_text name, struct fz_err *err);

/* Note that the list has a single name: that of a call of a map or a pool. */
void fz_trace_names_set_call(struct fz_trace_names *names);

size_t fz_trace_names_count(const struct fz_trace_names *names);

/* The name with index `i`, from 0; NULL if there is none. */
struct fz_trace_name *fz_trace_name(struct fz_trace_names *names, uint64_t i);

/*
 * Create a trace with one reference, and write the head of its file. NULL and
 * `err` on failure.
 */
struct fz_trace *fz_trace_new(
    const struct fz_trace_opts *opts, struct fz_err *err);
struct fz_trace *fz_trace_ref(struct fz_trace *trace);

/* Drop a reference; the last one closes the file. NULL is allowed. */
void fz_trace_unref(struct fz_trace *trace);

/*
 * Memory for the next record, which saves fz_trace_add() the copy; valid until
 * the next call. NULL: no memory, or no more records.
 */
struct fz_job_event *fz_trace_room(struct fz_trace *trace);

/*
 * Record the end of an attempt. The caller sets the name of the returned
 * record, one of `names`. NULL if the record is lost: there is no memory
 * (counted), or the trace is that of this process's parent.
 */
struct fz_job_event *fz_trace_add(struct fz_trace *trace,
    const struct fz_job_event *event, struct fz_trace_names *names);

/* Never call `error_text` again, because its context ends. */
void fz_trace_forget_texts(struct fz_trace *trace);

/* Set the text of the error of a record that fz_trace_add() returned. */
void fz_trace_add_error(struct fz_trace *trace, struct fz_job_event *record,
    const struct fz_failure *failure);

/*
 * Write all records and the end of the file, and close the file. Returns 0, or
 * -1 and `err` if a write has failed. Later calls return 0.
 */
int fz_trace_close(struct fz_trace *trace, struct fz_err *err);

/*
 * The processor time that this process used from the first record to the last
 * one, to a millisecond. 0 if the trace keeps no records.
 */
uint64_t fz_trace_cpu_ns(const struct fz_trace *trace);

/* The records in memory: their number, and record `index`, from 0. */
size_t fz_trace_count(const struct fz_trace *trace);
const struct fz_job_event *fz_trace_get(
    const struct fz_trace *trace, size_t index);

#endif
