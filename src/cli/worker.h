/* worker.h - the fzlua command as a worker of another process. */
#ifndef FZ_CLI_WORKER_H
#define FZ_CLI_WORKER_H

/*
 * Serve the process that has started this one with these words; see
 * child_spawned.h.
 */
_Noreturn void fz_worker_serve(char **argv);

#endif
