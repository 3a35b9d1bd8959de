/* worker_command.h - the fzlua command as a worker of another process. */
#ifndef FZ_WORKER_COMMAND_H
#define FZ_WORKER_COMMAND_H

#include <stdbool.h>

/*
 * Serve the process that has started this process with these words: see
 * child_spawned.h.
 */
_Noreturn void fz_worker_command_serve(char **argv);

/*
 * fz_worker_command_is_on_node(): whether the command line is `fzlua --worker
 * [VERSION] [--allow FILE]`, as a submitter starts it.
 * fz_worker_command_serve_node(): serve the submitter through the standard
 * streams: see node_main.h.
 */
bool fz_worker_command_is_on_node(int argc, char **argv);
int fz_worker_command_serve_node(int argc, char **argv);

#endif
