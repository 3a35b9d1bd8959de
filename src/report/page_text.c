#include "report/page_text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#include "base/buf.h"
#include "trace/trace.h"

void
fz_page_put(struct fz_buf *out, const char *json)
{
	fz_buf_put(out, json, strlen(json));
}

void
fz_page_put_number(struct fz_buf *out, uint64_t v)
{
	char digits[20], *at = digits + sizeof(digits);

	do
		*--at = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	fz_buf_put(out, at, (size_t)(digits + sizeof(digits) - at));
}

static bool
is_plain(unsigned char c)
{
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<';
}

/* Append the character of `n` bytes at `s`; U+FFFD if `n` <= 0 (not UTF-8). */
static void
put_character(struct fz_buf *out, const char *s, utf8proc_ssize_t n)
{
	char escaped[8];

	if (n <= 0)
		fz_page_put(out, "\xef\xbf\xbd");
	else if (n > 1 || is_plain((unsigned char)*s))
		fz_buf_put(out, s, (size_t)n);
	else
		fz_buf_put(out, escaped,
		    (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x",
			(unsigned char)*s));
}

void
fz_page_put_text(struct fz_buf *out, const char *s, size_t len, size_t most)
{
	const char *end = s + len;
	size_t used = 0;

	while (s != end) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = 1;

		if (!is_plain((unsigned char)*s))
			n = utf8proc_iterate(
			    (const utf8proc_uint8_t *)s, end - s, &c);
		used += n > 0 ? (size_t)n : 3;
		if (used > most) {
			fz_page_put(out, "\xe2\x80\xa6");
			return;
		}
		put_character(out, s, n);
		s += n > 0 ? n : 1;
	}
}

void
fz_page_put_string(
    struct fz_buf *out, const char *bytes, size_t len, size_t most)
{
	fz_page_put(out, "\"");
	fz_page_put_text(out, bytes, len, most);
	fz_page_put(out, "\"");
}

void
fz_page_put_member(struct fz_buf *out, const char *key, uint64_t v)
{
	fz_page_put(out, key);
	fz_page_put_number(out, v);
}

void
fz_page_put_known(struct fz_buf *out, const char *key, uint64_t v)
{
	if (v != 0)
		fz_page_put_member(out, key, v);
}

void
fz_page_put_names(struct fz_buf *out, const struct fz_trace_name *name)
{
	if (name != NULL && name->stage != NULL) {
		fz_page_put(out, "\"stage\":");
		fz_page_put_string(
		    out, name->stage, name->nstage, FZ_PAGE_NAME);
		fz_page_put(out, ",");
	}
	fz_page_put(out, "\"name\":");
	if (name != NULL)
		fz_page_put_string(out, name->name, name->nname, FZ_PAGE_NAME);
	else
		fz_page_put(out, "\"?\"");
}
