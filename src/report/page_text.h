/*
 * page_text.h - the JSON inside the page of a run.
 *
 * "<" is escaped, so that no text can end the HTML element that contains the
 * JSON. Failures are sticky in the buffer.
 */
#ifndef FZ_PAGE_TEXT_H
#define FZ_PAGE_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct fz_buf;
struct fz_trace_name;

/* The maximum lengths in bytes of a name and of a message on the page. */
enum { FZ_PAGE_NAME = 160, FZ_PAGE_MESSAGE = 3000 };

/* Append text that is JSON already. */
void fz_page_put(struct fz_buf *out, const char *json);
void fz_page_put_number(struct fz_buf *out, uint64_t v);

/*
 * Append a text without quotes, at most `most` bytes of it. U+FFFD replaces
 * each byte that is not UTF-8. A text that was cut ends with an ellipsis.
 */
void fz_page_put_text(
    struct fz_buf *out, const char *bytes, size_t len, size_t most);

/* As fz_page_put_text(), with quotes around the text. */
void fz_page_put_string(
    struct fz_buf *out, const char *bytes, size_t len, size_t most);

/* Append a JSON member; `key` is what precedes the number: `,"key":`. */
void fz_page_put_member(struct fz_buf *out, const char *key, uint64_t v);

/* As fz_page_put_member(), but appends nothing if `v` is 0. */
void fz_page_put_known(struct fz_buf *out, const char *key, uint64_t v);

/* Append `"stage":...,"name":...`, without `stage` if there is none. */
void fz_page_put_names(struct fz_buf *out, const struct fz_trace_name *name);

#endif
