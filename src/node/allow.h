/*
 * allow.h - the functions that a worker on a node may run: the file of --allow.
 *
 * A line begins with the SHA-256 of the code of a Lua function, in 64
 * hexadecimal digits, which any text may follow; or it is the name of a module
 * (`os`) or of a C function in a module (`os.time`). `#` begins a comment.
 */
#ifndef FZ_ALLOW_H
#define FZ_ALLOW_H

#include <stdbool.h>

struct fz_err;
struct fz_allow;

enum { FZ_ALLOW_DIGEST = 32 }; /* bytes of a SHA-256 */

/* Read the file. NULL and `err`, which names a line with an error. */
struct fz_allow *fz_allow_read(const char *path, struct fz_err *err);

/* Add a digest. 0, or -1 if there is no memory. */
int fz_allow_add(
    struct fz_allow *allow, const unsigned char digest[FZ_ALLOW_DIGEST]);

/* Whether the list has this digest. */
bool fz_allow_has(
    const struct fz_allow *allow, const unsigned char digest[FZ_ALLOW_DIGEST]);

/*
 * Whether the list allows the module, if `field` is NULL, or else its function
 * `field`. Functions that only compute, such as `math.floor`, are always
 * allowed.
 */
bool fz_allow_has_name(
    const struct fz_allow *allow, const char *module, const char *field);

void fz_allow_free(struct fz_allow *allow); /* NULL is allowed */

#endif
