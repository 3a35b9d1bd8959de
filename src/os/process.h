/*
 * process.h - the state that a process has once, however many instances of the
 * library (Lua states with an engine) it runs, and in however many threads.
 *
 * This is the only writable object of the library apart from caches and the
 * state of the command, which tools/statics.lua lists. All that belongs to one
 * instance is in its engine or its Lua state. There is no pointer to this
 * object in the engine, because signal handlers, fork handlers, fz_fd_close()
 * and the references in the shared heap reach it without one.
 *
 * The comment of each field says why it is safe with several threads. "Written
 * before the threads": a program writes it once at its start, before it starts
 * a thread. "Written in a child": a forked child writes it while it is set up
 * and has one thread. "Under `lock`": only with `lock` held.
 */
#ifndef FZ_PROCESS_H
#define FZ_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/list.h"

enum {
	/* private descriptors (fd.h) have numbers below this */
	FZ_PROCESS_FDS = 1 << 20,
	FZ_PROCESS_LATE = 64, /* maximum number of processes to reap later */
};

/*
 * The mapping of the shared heap, for shared/heap. It changes under `lock`, and
 * only while no instance uses the heap. Therefore an instance that uses the
 * heap reads the mapping without the lock.
 */
struct fz_process_heap {
	/* address of the mapping; NULL: it is not mapped */
	unsigned char *base;
	_Atomic uint64_t *owners;
	unsigned char *blocks;
	size_t size;
	int fd; /* the mapped file; -1 if it is not needed any more */
	/*
	 * The file for programs that this process starts: a descriptor of the
	 * process `keeper`, which mapped the heap first. The forks of `keeper`
	 * do not have the descriptor.
	 */
	int kept_fd;
	pid_t keeper;
	int wake_fd; /* eventfd; valid while the heap is mapped */
	/* number of instances that have acquired the heap; under `lock` */
	unsigned nholders;
	/* the heap was released while a lock may be held; under `lock` */
	bool left_locked;
	/* pid of the process that failed to open the heap; 0: none */
	pid_t failed;
	/*
	 * A counter in the heap: the processes, alive or dead, that have
	 * inherited it and were not forked by the library. NULL: not mapped.
	 */
	_Atomic uint32_t *nforeign;
	_Atomic int64_t reclaim_ns; /* time of the next reclaim */
};

/*
 * Called by the fork handler in a child that other code, such as the host, has
 * forked. Like each fork handler, it must not allocate.
 */
struct fz_foreign_fork {
	void (*in_child)(struct fz_foreign_fork *foreign);
	struct fz_list link; /* in the list fz_process.foreign */
};

struct fz_process {
	/*
	 * Guards the fields whose comment names it. The library forks no child
	 * while it is held.
	 */
	pthread_mutex_t lock;
	/*
	 * Held from the time the first pipe to a new child is opened until the
	 * child's ends are closed in this process. Therefore the child of
	 * another instance inherits no copy of such an end. A copy would hide
	 * the death of the new child.
	 */
	pthread_mutex_t spawning;
	bool watched; /* the fork handlers are installed; under `lock` */
	/*
	 * A number that is different in each child that is forked after the
	 * fork handlers were installed. An object that holds another number is
	 * therefore an inherited copy. Written in a child.
	 */
	uint32_t generation;
	struct fz_list foreign; /* list of fz_foreign_fork; under `lock` */
	/*
	 * For proc: the process is a subreaper while it has children. Written
	 * before the threads.
	 */
	bool adopts;
	size_t nunreaped; /* number of children; under `lock` */
	/*
	 * Processes, and process groups of dead children, that were killed and
	 * are not reaped yet, as numbers for waitpid(). Under `lock`.
	 */
	pid_t late[FZ_PROCESS_LATE];
	size_t nlate;
	/* workers of dead workers may be left; under `lock` */
	bool late_workers;
	/*
	 * Dead children that may have left living processes behind.
	 * Under `lock`.
	 */
	pid_t late_parents[FZ_PROCESS_LATE];
	size_t nlate_parents;
	/*
	 * The process that forked this one; 0: another program started it.
	 * Written in a child, whose signal handlers read it.
	 */
	pid_t parent;
	/* depth below the first process; written in a child */
	unsigned depth;
	/* a handler of exit() is installed; written in a child */
	bool catches_exit;
	/*
	 * The environment entry FZ_PROC_MARK; "": none. Written before the
	 * threads, and in a child.
	 */
	char mark[40];
	/*
	 * The soft limit of descriptors before it was raised; rlim_max is 0
	 * until then. Written before the threads.
	 */
	struct rlimit old_fd_limit;
	/*
	 * The path of the fzlua command if this process runs it, to start
	 * workers that are programs; else NULL. Written before the threads.
	 */
	const char *program;
	struct fz_process_heap heap;
	/* a bit for each private descriptor (fd.h), in `nprivate` words */
	_Atomic int nprivate;
	_Atomic uint64_t private_fds[FZ_PROCESS_FDS / 64];
	/* `private_fds` has the bits of the parent; written in a child */
	bool inherits_private;
};

extern struct fz_process fz_process;

/* Lock and unlock fz_process.lock. */
void fz_process_lock(void);
void fz_process_unlock(void);

/* Around the start of a child: hold and release fz_process.spawning. */
void fz_process_begin_spawn(void);
void fz_process_end_spawn(void);

/*
 * Install the fork handlers. In each child, even one that the host forks, the
 * locks are then free and the generation is different. 0, or an errno. A second
 * call does nothing.
 */
int fz_process_watch_forks(void);

/*
 * Call fz_process_begin_fork() before the library forks, and
 * fz_process_end_fork() after it, in both processes. Between the two calls the
 * fork handler does not count a child as foreign, because the child sets itself
 * up.
 */
void fz_process_begin_fork(void);
void fz_process_end_fork(void);

/*
 * From now on call foreign->in_child() in each child that other code forks,
 * until fz_process_remove_foreign().
 */
void fz_process_add_foreign(struct fz_foreign_fork *foreign);
void fz_process_remove_foreign(struct fz_foreign_fork *foreign);

#endif
