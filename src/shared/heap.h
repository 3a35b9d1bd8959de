/*
 * heap.h - memory that all processes of one run share.
 *
 * The heap is one sparse memfd without a name. The first process maps it before
 * it forks, so all its descendants have it. The memfd exists until the last of
 * these processes ends.
 *
 * Each instance of the library that uses the heap is a member; a process may
 * have several members. A process may be killed at any instruction, so each
 * change of shared memory is a single store or compare-and-swap. The heap has:
 *
 *   members  each holds a robust mutex while it lives
 *   blocks   of 64 KiB; one word says whether the block is free, or which
 *            member or object owns it
 *   objects  locks, queues, ...: a small object shares a block with others of
 *            its creator, a large one has its own blocks; each may own more
 *
 * A process has only one heap. Each member uses it in one thread at a time.
 */
#ifndef FZ_HEAP_H
#define FZ_HEAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/eventcount.h"
#include "shared/ref.h"

struct fz_err;

#define FZ_HEAP_BLOCK ((size_t)64 << 10)
#define FZ_HEAP_SMALL ((size_t)256) /* maximum bytes of a small object */
#define FZ_HEAP_MEMBERS 4096 /* maximum number of members at the same time */
#define FZ_HEAP_SEATS 16384  /* maximum number of seats: struct fz_heap_wait */

/*
 * Map the heap, unless this process has mapped or inherited it. Call this
 * before the first fork, so that all processes share one heap. 0, or -1 and
 * `err`.
 */
int fz_heap_open(struct fz_err *err);

/* What a program needs to map the heap of the process that starts it. */
struct fz_heap_files {
	/* descriptors for the program to inherit; -1: there is no heap */
	int file, wake;
	pid_t keeper; /* the process that has mapped the heap first */
	int kept;     /* descriptor of the heap's file in `keeper` */
	bool opened;  /* fz_heap_close_files() must close `file` */
};

/*
 * Called by a process that starts a program: fz_heap_open_files() before the
 * start, fz_heap_close_files() after it.
 */
void fz_heap_open_files(struct fz_heap_files *files);
void fz_heap_close_files(struct fz_heap_files *files);

/*
 * Called in a program that was started with these files, before any other use
 * of the heap: map the heap. The process then owns the descriptors. If there is
 * no heap, or if it cannot be mapped, this process cannot share anything.
 */
void fz_heap_inherit(const struct fz_heap_files *files);

/* The membership of one instance in the heap. All bytes are 0 at first. */
struct fz_membership {
	/* true between fz_heap_acquire() and fz_heap_release() */
	bool acquired;
	uint32_t number; /* the member; 0: the instance has not joined */
	uint32_t owner;  /* the owner of its blocks; 0: none yet */
	/* generation of the process that joined; its forks have others */
	uint32_t generation;
	unsigned char *small; /* its block for small objects, or NULL */
	/* all objects in `small` before this index are used */
	size_t next_small;
	/* objects to be freed later, linked by `next` */
	struct fz_ref dropped;
	uint32_t free_seat; /* the first free seat; 0: none */
	uint32_t task;      /* number of the running task; 0: none */
};

/*
 * fz_heap_acquire(): called by an engine at its start, whether or not the heap
 * is mapped. fz_heap_release(): called at its end; frees the objects of the
 * engine that were not sent. The last release in a process unmaps the heap.
 */
void fz_heap_acquire(struct fz_membership *own);
void fz_heap_release(struct fz_membership *own);

/*
 * Become a member, unless this instance is one. After a fork, the instance in
 * the child is no member. Maps the heap if necessary. Returns the number of the
 * member, or 0 and fills `err`.
 */
uint32_t fz_heap_join(struct fz_membership *own, struct fz_err *err);

/* The member number of this instance; 0 if it has not joined. */
static inline uint32_t
fz_heap_self(const struct fz_membership *own)
{
	return own->generation == fz_process.generation ? own->number : 0;
}

/* Whether the member with this number is alive. */
bool fz_heap_alive(uint32_t member);

/*
 * Whether no other living member shares objects. Members in processes for which
 * `ignores` returns true do not count. Returns false if code outside the
 * library has forked a process that has the heap: that process, or its
 * descendants, may be alive and join later.
 */
bool fz_heap_is_alone(uint32_t self,
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

/* Whether no other instance, dead or alive, has ever shared objects. */
bool fz_heap_is_only(uint32_t self);

/*
 * The place of a member, a number below FZ_HEAP_MEMBERS. After the member's
 * death another member may get this place.
 */
uint32_t fz_heap_place(uint32_t member);

/* A number greater than all places that were ever used. */
uint32_t fz_heap_nplaces(void);

/*
 * A wait of a member for an object, of the kind where another member chooses
 * which waiter to wake (waiter.h). Each member can wait at its place. If
 * several of its tasks wait, the others wait on seats, whose numbers begin at
 * FZ_HEAP_MEMBERS.
 */
struct fz_heap_wait {
	/* the member to which this place or seat belongs; 0: none */
	_Atomic uint32_t member;
	_Atomic uint32_t what; /* name of the object; 0: none */
	/* state of the wait, in the encoding of waiter.c; 0: no wait */
	_Atomic uint64_t ticket;
	struct fz_eventcount wakeup; /* the member sleeps here */
};

/* The wait at the place or seat with this number. */
struct fz_heap_wait *fz_heap_wait(uint32_t number);

/* A number greater than all seats that were ever used. */
uint32_t fz_heap_nseats(void);

/*
 * Acquire a seat for this member. Returns 0 if all seats are in use, or if
 * there is no memory.
 */
uint32_t fz_heap_take_seat(struct fz_membership *own);
void fz_heap_free_seat(struct fz_membership *own, uint32_t number);

/* The head of an object. */
struct fz_object {
	_Atomic uint32_t type; /* 0: this small object is free */
	uint32_t generation;   /* differs between objects at one address */
	/* the object was sent as a value, so any process may have it */
	_Atomic uint32_t sent;
	uint32_t maker; /* member that has created the object */
	/*
	 * `handles`: number of handles that the creator has. `forks`: number of
	 * forks of the creator before it created the object. Only the creator
	 * uses `handles`, `forks` and the list `next`.
	 */
	_Atomic uint32_t handles;
	/* not 0 if the object owns, or has owned, blocks besides its own */
	_Atomic uint32_t owns;
	uint64_t forks;
	struct fz_ref next;
};

/*
 * A new object of `size` bytes, which are 0 after the head. The caller chooses
 * `type`, which is not 0. NULL and `err` if there is no memory.
 */
void *fz_heap_new(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err);

/*
 * As fz_heap_new(), for an object without handles. The instance does not count
 * as sharing because of it: fz_heap_is_alone() ignores the instance.
 */
void *fz_heap_new_quiet(
    struct fz_membership *own, uint32_t type, size_t size, struct fz_err *err);

/* Whether any process has created an object by fz_heap_new_quiet(). */
bool fz_heap_has_quiet(void);

/*
 * Free an object that this member has created, and all blocks that the object
 * owns. No process may be using the object.
 */
void fz_heap_free(struct fz_membership *own, struct fz_object *object);

/*
 * A random number that identifies this heap, so that names of objects in
 * another heap are recognised. UINT32_MAX if there is no heap.
 */
#define FZ_HEAP_ID_MAX 0xffffffU
uint32_t fz_heap_id(void);

/* The name of an object. It is the same in every process, and never 0. */
uint32_t fz_heap_name(const struct fz_object *object);

/* The object with this name; NULL if it was freed. */
struct fz_object *fz_heap_find(
    uint32_t name, uint32_t generation, uint32_t type);

/*
 * Allocate whole blocks with at least `size` bytes, which are not zeroed. The
 * member `self` owns them. If it dies before another owner is set, they are
 * freed. NULL and `err` on failure.
 */
void *fz_heap_alloc(uint32_t self, size_t size, struct fz_err *err);

/* Set the owner of blocks: an object, or the member `self`. */
void fz_heap_set_owner(void *blocks, struct fz_object *object);
void fz_heap_own(void *blocks, uint32_t self);

/* Free those of `blocks` that are not needed for `size` bytes. */
void fz_heap_trim(void *blocks, size_t size);

/* Free blocks of fz_heap_alloc(), whoever owns them now. */
void fz_heap_give_back(void *blocks);

/* Size of the blocks in bytes. */
size_t fz_heap_capacity(const void *blocks);

/* Bytes in owned blocks; an estimate after a process was killed. */
size_t fz_heap_used(void);

/*
 * A descriptor that fz_heap_wake_all() makes readable in all processes. Poll it
 * by edge (EPOLLET): no process reads it. -1: the heap is not mapped.
 */
int fz_heap_wake_fd(void);
void fz_heap_wake_all(void);

#endif
