/* worker_spawn.h - starts a worker: its link, its process, its output. */
#ifndef FZ_WORKER_SPAWN_H
#define FZ_WORKER_SPAWN_H

struct fz_err;
struct fz_worker_private;

/*
 * Open the link and start the process of the worker. Returns 0; or -1 and
 * `err`, and fz_worker_free() then closes what was opened.
 */
int fz_worker_spawn(struct fz_worker_private *p, struct fz_err *err);

#endif
