/*
 * program_test.h - other programs, with a kernel as it is and an old one.
 *
 * A test that includes this has this line in its first comment:
 *
 * wrap: syscall
 */
#ifndef PROGRAM_TEST_H
#define PROGRAM_TEST_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "worker/program.h"
#include "world.h"

/* `words` ends with NULL. The program has no time limit and no input. */
struct fz_program_opts program_options(struct world *w, char *const *words);

/* The words that run a script. */
char *const *program_shell(const char *script);

struct fz_program *program_start(const struct fz_program_opts *opts);

/* Wait at most ten seconds for the end of the program. */
struct fz_program_end *program_wait(
    struct world *w, struct fz_program *program);

void assert_program_wrote(const struct fz_buf *buf, const char *text);

/* Check that the program exited with this code, and wrote these texts. */
void assert_program_ended(const struct fz_program_end *end, int exitcode,
    const char *out, const char *errors);

struct CMUnitTest;

/* Run the tests, and again as on an old kernel. */
int run_programs(const struct CMUnitTest *tests, size_t n);

#endif
