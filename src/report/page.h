/*
 * page.h - the data of the page of a run. The size of the data is bounded:
 * surplus data is merged or omitted, and a note on the page says so.
 */
#ifndef FZ_PAGE_H
#define FZ_PAGE_H

struct fz_buf;
struct fz_err;
struct fz_sums;

/*
 * Append the members of a JSON object: summary, groups, histograms, functions,
 * workers, slowest, failures, notes. The object `notes` is left open, so that
 * the caller can add notes. 0, or -1 and `err`.
 */
int fz_page_put_sums(
    struct fz_sums *sums, struct fz_buf *out, struct fz_err *err);

#endif
