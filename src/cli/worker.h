/* worker.h - the fzlua command as a worker of another process. */
#ifndef FZ_CLI_WORKER_H
#define FZ_CLI_WORKER_H

#include <stdbool.h>

/*
 * Serve the process that has started this one with these words; see
 * child_spawned.h.
 */
_Noreturn void fz_worker_serve(char **argv);

/*
 * Whether this is `fzlua --worker [VERSION] [--allow FILE]`, and serve the
 * standard streams: see node.h.
 */
bool fz_worker_is_on_node(int argc, char **argv);
int fz_worker_serve_node(int argc, char **argv);

/*
 * Whether this is `fzlua --worker` with options: it joins an engine. Become its
 * gateway, or return the exit status.
 */
bool fz_worker_is_joining(int argc, char **argv);
int fz_worker_join(int argc, char **argv);

#endif
