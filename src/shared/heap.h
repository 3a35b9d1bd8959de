/*
 * heap.h - memory that all processes of one run share.
 *
 * One sparse memfd without a name, mapped by the first process before it forks:
 * every process that comes of it has it at the same address, and with it what
 * any of them makes there later. It is gone with the last of them.
 *
 * A process that uses it is a member. A member may die at any instruction, so
 * each change to what is shared is one store or one compare-and-swap:
 *
 *   members  each holds a robust mutex as long as it lives
 *   chunks   64 KiB; one word says whose: nobody's, a member's, an object's
 *   objects  a lock, a queue, ...: small ones in cells of a chunk of their
 *            maker, others in chunks of their own; both may own further chunks
 *
 * One per process, made for one thread.
 */
#ifndef FZ_ALLOC_H
#define FZ_ALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/ref.h"

struct fz_err;

#define FZ_HEAP_CHUNK ((size_t)64 << 10)
#define FZ_HEAP_CELL ((size_t)256) /* objects up to it share a chunk */
#define FZ_HEAP_MEMBERS 4096       /* at once */

/*
 * Map it, unless this process or the one it was forked from has. Before the
 * first fork, so that all have the same. 0, or -1 and `err`.
 */
int fz_heap_open(struct fz_err *err);

/*
 * Who may open it, an engine, says so before, and when it is at its end: with
 * the last one this process closes it.
 */
void fz_heap_hold(void);
void fz_heap_let_go(void);
bool fz_heap_is_held(void);

/* ---- members ----------------------------------------------------------- */

/*
 * The number of this process; it becomes a member with the first call. 0 and
 * `err` where it cannot. A forked child is none before it asks.
 */
uint32_t fz_heap_self(struct fz_err *err);

/* The same, but 0 where it is no member yet. */
uint32_t fz_heap_me(void);

/* Whether the process that is or was that member lives. */
bool fz_heap_alive(uint32_t member);

/* The member's place, below FZ_HEAP_MEMBERS; used again after its death. */
uint32_t fz_heap_place(uint32_t member);

/* All places that were used until now are below this. */
uint32_t fz_heap_nplaces(void);

/*
 * What a member waits for, when others choose whom to wake. At its place;
 * written by itself, and by others as its user lays down.
 */
struct fz_heap_wait {
	_Atomic uint32_t member;   /* whose; 0: the place is free */
	_Atomic uint32_t what;     /* the object's name, 0: nothing */
	_Atomic uint64_t ticket;   /* lower ones came earlier */
	_Atomic uint32_t state;    /* its user's */
	struct fz_eventcount gate; /* where it sleeps */
};

struct fz_heap_wait *fz_heap_wait(uint32_t place);

/* ---- objects ----------------------------------------------------------- */

/* What each begins with. */
struct fz_object {
	_Atomic uint32_t type; /* 0: a free cell */
	uint32_t generation;   /* another one for each object */
	_Atomic uint32_t sent; /* as a value: others may come to have it */
	uint32_t maker;        /* member */
	/* The maker's: its handles, how many children it had had, and a list.
	 */
	_Atomic uint32_t handles;
	_Atomic uint32_t owns; /* chunks, ever */
	uint64_t forks;
	struct fz_ref next;
};

/*
 * A new object of `size` bytes, all zero behind its head. `type` is its users'
 * and not 0. NULL and `err` where there is no memory.
 */
void *fz_heap_new(uint32_t type, size_t size, struct fz_err *err);

/*
 * Free one that this process has made, with all chunks that it owns. Nobody may
 * be using it.
 */
void fz_heap_free(struct fz_object *object);

/*
 * The list of this process's objects that are to be freed later, by `next`. A
 * forked child has none, nor has one that has closed the shared heap.
 */
struct fz_ref *fz_heap_dropped(void);

/* Its name in every process; not 0. */
uint32_t fz_heap_name(const struct fz_object *object);

/* The object of that name; NULL where it is gone. */
struct fz_object *fz_heap_find(
    uint32_t name, uint32_t generation, uint32_t type);

/* ---- chunks ------------------------------------------------------------ */

/*
 * At least `size` bytes, not zeroed, in whole chunks, owned by this process:
 * when it dies before it hands them on they are free again. NULL and `err`.
 */
void *fz_heap_take(size_t size, struct fz_err *err);

/* They are the object's from now on; this process's where it is NULL. */
void fz_heap_own(void *chunks, struct fz_object *object);

/* Free those of this process that are not needed for `size` bytes. */
void fz_heap_trim(void *chunks, size_t size);

/* Free what fz_heap_take() gave, to whoever it belongs now. */
void fz_heap_give(void *chunks);

/* How many bytes they have. */
size_t fz_heap_room(const void *chunks);

/* Bytes in chunks that belong to somebody; about, after somebody was killed. */
size_t fz_heap_used(void);

/* ---- waking ------------------------------------------------------------ */

/*
 * Readable by edge (EPOLLET) whenever somebody rings; nobody reads it. -1 while
 * it is not open.
 */
int fz_heap_bell(void);
void fz_heap_ring(void);

#endif
