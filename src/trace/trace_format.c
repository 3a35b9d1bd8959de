#include "trace/trace_format.h"

#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "trace/job_event.h"
#include "trace/trace.h"

/* Maximum length in bytes of a line without its names. */
enum { LINE_ROOM = 640 };

/*
 * Copy a text to `p`, which has enough room. Inline, because the compiler then
 * knows the length of most texts.
 */
static inline unsigned char *
text(unsigned char *p, const char *s)
{
	size_t n = strlen(s);

	memcpy(p, s, n);
	return p + n;
}

/* The numbers from 00 to 99: two digits at once take half the time. */
static const char pairs[] =
    "00010203040506070809101112131415161718192021222324"
    "25262728293031323334353637383940414243444546474849"
    "50515253545556575859606162636465666768697071727374"
    "75767778798081828384858687888990919293949596979899";

static size_t
count_digits(uint64_t v)
{
	size_t n = 1;

	for (; v >= 10000; v /= 10000)
		n += 4;
	return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

static unsigned char *
long_number(unsigned char *p, uint64_t v)
{
	unsigned char *end = p + count_digits(v), *at = end;

	for (; v >= 100; v /= 100)
		memcpy(at -= 2, pairs + v % 100 * 2, 2);
	if (v >= 10)
		memcpy(p, pairs + v * 2, 2);
	else
		*p = (unsigned char)('0' + v);
	return end;
}

static inline unsigned char *
number(unsigned char *p, uint64_t v)
{
	if (v >= 100)
		return long_number(p, v);
	if (v < 10) {
		*p = (unsigned char)('0' + v);
		return p + 1;
	}
	memcpy(p, pairs + v * 2, 2);
	return p + 2;
}

/* Write kept digits, by a quick copy of a fixed size. */
static inline unsigned char *
copy_digits(unsigned char *p, const struct fz_trace_digits *digits)
{
	memcpy(p, digits->bytes, sizeof(digits->bytes));
	return p + digits->n;
}

/*
 * Keep the digits of `v`, which begin at `from` and end at `p`. A copy of a
 * fixed size is quick, so some bytes after `p` are copied, too. Returns `p`.
 */
static inline unsigned char *
keep_digits(struct fz_trace_digits *digits, uint64_t v,
    const unsigned char *from, unsigned char *p)
{
	digits->of = v;
	digits->n = (size_t)(p - from);
	memcpy(digits->bytes, from, sizeof(digits->bytes));
	return p;
}

/* Write a number that an earlier line probably had, too. */
static inline unsigned char *
same_number(unsigned char *p, struct fz_trace_digits *digits, uint64_t v)
{
	if (digits->n != 0 && digits->of == v)
		return copy_digits(p, digits);
	return keep_digits(digits, v, p, number(p, v));
}

/* Write `v`, which is less than 1000, with three digits. */
static unsigned char *
three_digits(unsigned char *p, uint64_t v)
{
	*p++ = (unsigned char)('0' + v / 100);
	memcpy(p, pairs + v % 100 * 2, 2);
	return p + 2;
}

/* Write a time in units of `per` nanoseconds, with three decimals. */
static unsigned char *
decimal(unsigned char *p, int64_t ns, int64_t per)
{
	p = number(p, (uint64_t)(ns / per));
	*p++ = '.';
	return three_digits(p, (uint64_t)(ns % per / (per / 1000)));
}

/* Write a point and six decimals: a time below a second, in seconds. */
static unsigned char *
fraction(unsigned char *p, uint32_t ns)
{
	uint32_t us = ns / 1000, high = us / 10000, low = us - high * 10000;

	*p = '.';
	memcpy(p + 1, pairs + high * 2, 2);
	memcpy(p + 3, pairs + low / 100 * 2, 2);
	memcpy(p + 5, pairs + low % 100 * 2, 2);
	return p + 7;
}

/* Keep the digits of a time's second. Returns the nanoseconds in it. */
static uint64_t
begin_second(struct fz_trace_file *file, uint64_t wall_ns)
{
	uint64_t s = wall_ns / FZ_CLOCK_SECOND;
	unsigned char digits[sizeof(file->second.bytes)] = { 0 };

	file->second_ns = s * FZ_CLOCK_SECOND;
	keep_digits(&file->second, s, digits, number(digits, s));
	return wall_ns - file->second_ns;
}

/*
 * Convert a time of fz_clock_ns() to seconds since 1970. Write the whole
 * seconds, and set `*rest` to the remaining nanoseconds.
 */
static inline unsigned char *
second(unsigned char *p, struct fz_trace_file *file, int64_t ns, uint32_t *rest)
{
	uint64_t wall_ns = (uint64_t)(ns + file->wall_ns);
	uint64_t over_ns = wall_ns - file->second_ns;

	if (over_ns >= FZ_CLOCK_SECOND)
		over_ns = begin_second(file, wall_ns);
	*rest = (uint32_t)over_ns;
	return copy_digits(p, &file->second);
}

/* Write a time of fz_clock_ns() in seconds since 1970, with six decimals. */
static unsigned char *
seconds(unsigned char *p, struct fz_trace_file *file, int64_t ns)
{
	uint32_t rest;

	p = second(p, file, ns, &rest);
	return fraction(p, rest);
}

/*
 * Write a time of fz_clock_ns() in microseconds since 1970, with three
 * decimals.
 */
static unsigned char *
wall_micros(unsigned char *p, struct fz_trace_file *file, int64_t ns)
{
	uint32_t rest;

	p = second(p, file, ns, &rest);
	p = three_digits(p, rest / 1000000);
	p = three_digits(p, rest / 1000 % 1000);
	*p++ = '.';
	return three_digits(p, rest % 1000);
}

/* Write a time of fz_clock_ns() in seconds since 1970, with three decimals. */
static unsigned char *
wall_millis(unsigned char *p, struct fz_trace_file *file, int64_t ns)
{
	uint32_t rest;

	p = second(p, file, ns, &rest);
	*p++ = '.';
	return three_digits(p, rest / 1000000);
}

/* Write a number of nanoseconds in seconds, with six decimals. */
static unsigned char *
micros(unsigned char *p, uint64_t ns)
{
	uint64_t s = ns / FZ_CLOCK_SECOND;

	return fraction(number(p, s), (uint32_t)(ns - s * FZ_CLOCK_SECOND));
}

/* Write a member with a number, unless it is 0, which means unknown. */
static unsigned char *
member(unsigned char *p, const char *name, uint64_t v)
{
	return v != 0 ? number(text(p, name), v) : p;
}

bool
fz_trace_is_cancelled(const struct fz_job_event *event)
{
	return event->kind == FZ_JOB_EVENT_FAILED && event->pid == 0 &&
	       event->err == FZ_ERR_CANCELLED;
}

const char *
fz_trace_word(const struct fz_job_event *event)
{
	if (event->kind == FZ_JOB_EVENT_DONE)
		return "done";
	if (event->kind == FZ_JOB_EVENT_RETRY)
		return "retry";
	if (event->kind == FZ_JOB_EVENT_CACHED)
		return "cached";
	return fz_trace_is_cancelled(event) ? "cancelled" : "failed";
}

int64_t
fz_trace_started(const struct fz_job_event *event)
{
	return event->ended_ns - event->took_ns * event->n;
}

/* Append the character at `s`, of at most `len` bytes. Returns its length. */
static size_t
put_character(struct fz_buf *out, const char *s, size_t len)
{
	utf8proc_int32_t c;
	utf8proc_ssize_t n = utf8proc_iterate(
	    (const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len, &c);
	char escaped[8];

	if (n <= 0) { /* not UTF-8, which JSON requires */
		fz_buf_put(out, "\\ufffd", 6);
		return 1;
	}
	if (c == '"' || c == '\\')
		fz_buf_put(out, "\\", 1);
	if (c >= ' ' && c != 0x7f)
		fz_buf_put(out, s, (size_t)n);
	else
		fz_buf_put(out, escaped,
		    (size_t)snprintf(
			escaped, sizeof(escaped), "\\u%04x", (unsigned)c));
	return (size_t)n;
}

static bool
is_plain(unsigned char c)
{
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

bool
fz_trace_is_plain(const char *s, size_t len)
{
	size_t i = 0;

	while (i < len && is_plain((unsigned char)s[i]))
		i++;
	return i == len;
}

void
fz_trace_put_string(struct fz_buf *out, const char *s, size_t len)
{
	const char *end = s + len;

	fz_buf_put(out, "\"", 1);
	while (s != end) {
		const char *from = s;

		while (s != end && is_plain((unsigned char)*s))
			s++;
		fz_buf_put(out, from, (size_t)(s - from));
		if (s != end)
			s += put_character(out, s, (size_t)(end - s));
	}
	fz_buf_put(out, "\"", 1);
}

/* Write the members that the objects of both JSON formats have. */
static unsigned char *
put_members(
    unsigned char *p, struct fz_trace_file *file, const struct fz_job_event *e)
{
	p = member(p, ",\"item\":", e->item);
	p = member(p, ",\"index\":", e->first);
	if (e->n == 1 && e->attempt == 1) {
		p = text(p, ",\"n\":1,\"attempt\":1");
	} else {
		p = number(text(p, ",\"n\":"), e->n);
		p = member(p, ",\"attempt\":", e->attempt);
	}
	p = member(p, ",\"sent\":", e->nsent);
	p = member(p, ",\"received\":", e->nreceived);
	if (e->cpu_ns != 0)
		p = micros(text(p, ",\"cpu\":"), e->cpu_ns);
	if (e->peak_rss != 0)
		p = same_number(text(p, ",\"peak\":"),
		    &file->peaks[e->pid % FZ_TRACE_WORKERS], e->peak_rss);
	if (e->init_ns > 0)
		p = micros(text(p, ",\"init\":"), (uint64_t)e->init_ns);
	if (e->launch_ns > 0)
		p = micros(text(p, ",\"launch\":"), (uint64_t)e->launch_ns);
	if (e->err == FZ_ERR_NONE)
		return p;
	p = text(text(p, ",\"error\":\""),
	    fz_err_kind_name((enum fz_err_kind)e->err));
	*p++ = '"';
	p = member(p, ",\"signal\":", (uint64_t)e->signal);
	if (e->exitcode >= 0)
		p = number(text(p, ",\"exitcode\":"), (uint64_t)e->exitcode);
	return p;
}

/* The name of an event; an empty name if the event has none. */
static const struct fz_trace_name *
name_of(const struct fz_job_event *e)
{
	static const struct fz_trace_name none = { .len = 0 };

	return e->name != NULL ? e->name : &none;
}

/*
 * Write the JSON members with stage and name. Most of them are short; a copy of
 * a fixed size is quick.
 */
static inline unsigned char *
put_names(unsigned char *p, const struct fz_trace_name *name)
{
	if (name->len <= FZ_TRACE_SHORT)
		memcpy(p, name->members.few, FZ_TRACE_SHORT);
	else
		memcpy(p, name->members.many, name->len);
	return p + name->len;
}

/* Room for a line and `nnames` bytes of names. NULL: there is no memory. */
static unsigned char *
begin_line(struct fz_buf *out, size_t nnames)
{
	return fz_buf_reserve(out, LINE_ROOM + nnames);
}

/* End a line at `p`: add the members with texts of any length, and `end`. */
static inline void
end_object(struct fz_buf *out, unsigned char *p, const struct fz_job_event *e,
    const char *end)
{
	if (e->node == NULL && e->text == NULL) {
		out->len = (size_t)(text(p, end) - out->data);
		return;
	}
	out->len = (size_t)(p - out->data);
	if (e->node != NULL) {
		fz_buf_put(out, ",\"node\":", 8);
		fz_trace_put_string(out, e->node, strlen(e->node));
	}
	if (e->text != NULL) {
		fz_buf_put(out, ",\"message\":", 11);
		fz_trace_put_string(out, e->text, e->ntext);
	}
	fz_buf_put(out, end, strlen(end));
}

static void
end_line(struct fz_buf *out, unsigned char *p)
{
	*p++ = '\n';
	out->len = (size_t)(p - out->data);
}

static void
put_mark(struct fz_buf *out, struct fz_trace_file *file, const char *word)
{
	unsigned char *p = begin_line(out, 0);

	if (p == NULL)
		return;
	p = text(text(text(p, "{\"event\":\""), word), "\",\"time\":");
	p = seconds(p, file, fz_clock_ns());
	p = number(text(p, ",\"pid\":"), (uint64_t)file->pid);
	p = member(p, ",\"lost\":", file->nlost);
	*p++ = '}';
	end_line(out, p);
}

static void
jsonl_begin(struct fz_buf *out, struct fz_trace_file *file)
{
	put_mark(out, file, "begin");
}

static void
jsonl_end(struct fz_buf *out, struct fz_trace_file *file)
{
	put_mark(out, file, "end");
}

/*
 * Write the end of an attempt. Keep its digits, because the worker's next
 * attempt often starts at the same time.
 */
static unsigned char *
put_end(unsigned char *p, struct fz_trace_file *file, int64_t ended_ns)
{
	p = text(p, ",\"ended\":");
	return keep_digits(
	    &file->ended, (uint64_t)ended_ns, p, seconds(p, file, ended_ns));
}

static unsigned char *
put_start(unsigned char *p, struct fz_trace_file *file, int64_t started_ns)
{
	p = text(p, ",\"started\":");
	if (file->ended.n != 0 && file->ended.of == (uint64_t)started_ns)
		return copy_digits(p, &file->ended);
	return seconds(p, file, started_ns);
}

static void
jsonl_event(struct fz_buf *out, struct fz_trace_file *file,
    const struct fz_job_event *e)
{
	const struct fz_trace_name *name = name_of(e);
	unsigned char *p = begin_line(out, name->len);

	if (p == NULL)
		return;
	file->nlines++;
	if (e->kind == FZ_JOB_EVENT_DONE) {
		p = text(p, "{\"event\":\"done\"");
	} else {
		p = text(text(p, "{\"event\":\""), fz_trace_word(e));
		*p++ = '"';
	}
	p = put_members(put_names(p, name), file, e);
	if (e->queued_ns != 0)
		p = seconds(text(p, ",\"queued\":"), file, e->queued_ns);
	p = put_start(p, file, fz_trace_started(e));
	p = put_end(p, file, e->ended_ns);
	if (e->pid != 0)
		p = same_number(text(p, ",\"pid\":"),
		    &file->pids[e->pid % FZ_TRACE_WORKERS], (uint64_t)e->pid);
	end_object(out, p, e, "}\n");
}

/*
 * Begin a JSON array. If the process is killed, the array has no end; readers
 * of this format accept that.
 */
static void
chrome_begin(struct fz_buf *out, struct fz_trace_file *file)
{
	(void)file;
	fz_buf_put(out, "[\n", 2);
}

static void
chrome_end(struct fz_buf *out, struct fz_trace_file *file)
{
	unsigned char *p = begin_line(out, 0);

	if (p == NULL)
		return;
	p = text(p, "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":");
	p = number(p, (uint64_t)file->pid);
	end_line(out, text(p, ",\"args\":{\"name\":\"fzlua\"}}]"));
}

/*
 * Whether the event has a time. An attempt that was cancelled before its start
 * has none.
 */
static bool
has_time(const struct fz_job_event *e)
{
	return e->pid != 0 || e->kind == FZ_JOB_EVENT_CACHED;
}

/* Write the times of a call (a bar), or of a recorded result (a mark). */
static unsigned char *
chrome_times(
    unsigned char *p, struct fz_trace_file *file, const struct fz_job_event *e)
{
	int64_t started_ns = fz_trace_started(e);

	p = wall_micros(text(p, ",\"ts\":"), file, started_ns);
	if (e->kind != FZ_JOB_EVENT_CACHED)
		p = decimal(
		    text(p, ",\"dur\":"), e->ended_ns - started_ns, 1000);
	p = number(text(p, ",\"pid\":"), (uint64_t)file->pid);
	return same_number(text(p, ",\"tid\":"),
	    &file->pids[e->pid % FZ_TRACE_WORKERS], (uint64_t)e->pid);
}

static void
chrome_event(struct fz_buf *out, struct fz_trace_file *file,
    const struct fz_job_event *e)
{
	const struct fz_trace_name *name = name_of(e);
	unsigned char *p = has_time(e) ? begin_line(out, name->len) : NULL;

	if (p == NULL)
		return;
	file->nlines++;
	p = text(p, e->kind == FZ_JOB_EVENT_CACHED
			? "{\"ph\":\"i\",\"s\":\"p\",\"cat\":\""
			: "{\"ph\":\"X\",\"cat\":\"");
	p = text(p, fz_trace_word(e));
	*p++ = '"';
	p = name->len != 0 ? put_names(p, name) : text(p, ",\"name\":\"?\"");
	p = chrome_times(p, file, e);
	p = text(text(p, ",\"args\":{\"event\":\""), fz_trace_word(e));
	*p++ = '"';
	end_object(out, put_members(p, file, e), e, "}},\n");
}

static void
tsv_begin(struct fz_buf *out, struct fz_trace_file *file)
{
	static const char head[] =
	    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal"
	    "\tCommand\n";

	(void)file;
	fz_buf_put(out, head, sizeof(head) - 1);
}

/* Write a name with a space for each control character. */
static unsigned char *
command(unsigned char *p, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		*p++ = c < ' ' ? ' ' : c;
	}
	return p;
}

/* Write the name of a node; ":" is this machine, as in GNU parallel. */
static unsigned char *
host(unsigned char *p, const char *node)
{
	enum { MAX = 200 };
	char name[MAX + 1];

	snprintf(name, sizeof(name), "%s", node != NULL ? node : ":");
	return command(p, name, strlen(name));
}

static unsigned char *
put_command(unsigned char *p, const struct fz_job_event *e)
{
	const struct fz_trace_name *name = e->name;

	if (name != NULL && name->stage != NULL)
		p = text(command(p, name->stage, name->nstage), ".");
	p = name != NULL ? command(p, name->name, name->nname) : text(p, "?");
	if (e->item != 0)
		p = number(text(p, " item "), e->item);
	if (e->first != 0)
		p = number(text(p, " index "), e->first);
	return e->n > 1 ? number(text(p, " to "), e->first + e->n - 1) : p;
}

static unsigned
exit_value(const struct fz_job_event *e)
{
	if (e->kind == FZ_JOB_EVENT_DONE || e->kind == FZ_JOB_EVENT_CACHED ||
	    e->signal != 0)
		return 0;
	return e->exitcode > 0 ? (unsigned)e->exitcode : 1;
}

static void
tsv_event(struct fz_buf *out, struct fz_trace_file *file,
    const struct fz_job_event *e)
{
	const struct fz_trace_name *name = e->name;
	size_t nnames = name != NULL ? name->nstage + name->nname : 0;
	unsigned char *p = NULL;
	int64_t started_ns = fz_trace_started(e);

	if (has_time(e))
		p = begin_line(out, nnames);
	if (p == NULL)
		return;
	p = number(p, ++file->nlines);
	*p++ = '\t';
	p = host(p, e->node);
	*p++ = '\t';
	p = wall_millis(p, file, started_ns);
	*p++ = '\t';
	p = decimal(p, e->ended_ns - started_ns, FZ_CLOCK_SECOND);
	*p++ = '\t';
	p = number(p, e->nsent);
	*p++ = '\t';
	p = number(p, e->nreceived);
	*p++ = '\t';
	p = number(p, exit_value(e));
	*p++ = '\t';
	p = number(p, (uint64_t)e->signal);
	*p++ = '\t';
	end_line(out, put_command(p, e));
}

static void
tsv_end(struct fz_buf *out, struct fz_trace_file *file)
{
	(void)out;
	(void)file;
}

const struct fz_trace_lines fz_trace_lines[] = {
	[FZ_TRACE_JSONL] = { jsonl_begin, jsonl_event, jsonl_end },
	[FZ_TRACE_CHROME] = { chrome_begin, chrome_event, chrome_end },
	[FZ_TRACE_TSV] = { tsv_begin, tsv_event, tsv_end },
};
