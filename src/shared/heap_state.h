/* heap_state.h - what the files of the shared heap share. */
#ifndef FZ_ALLOC_STATE_H
#define FZ_ALLOC_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/heap.h"

/*
 *   region     head | owners of chunks | chunk 0 | chunk 1 | ...
 *   owner      32 bits whose, 32 bits how many chunks from here on; 0 where
 *              another before it says so. Freed from the end, each by itself,
 *              since the process may be killed in between.
 *   whose      COLD nobody's, without memory; WARM nobody's, with it; a member;
 *              CELLS, then its maker in the lower 32 bits; bit 31 and the name
 *              of an object
 *   member     generation 19 bits | place 12 bits
 *   name       offset / CELL: that of the cell, or of the object's first chunk
 */
#define CHUNK FZ_HEAP_CHUNK
#define CELL FZ_HEAP_CELL
#define OBJECT_BIT UINT32_C(0x80000000)
#define COLD UINT32_C(0)
#define WARM UINT32_C(0x7fffffff)
#define CELLS UINT32_C(0x7ffffffe)
#define GENERATIONS UINT32_C(0x7fffe) /* of members: they are below those */

enum { PLACE_BITS = 12, NCELLS = (64 << 10) / 256 };

/*
 * Held by the thread that made the process a member. A process that gets the
 * lock asks whether the member is dead, or that thread alone.
 */
struct member {
	pthread_mutex_t life;
	pid_t pid;
	int64_t joined_ns; /* of CLOCK_BOOTTIME */
	struct fz_heap_wait wait;
	uint32_t generation;
	int64_t dead_ns; /* when somebody saw that it is; 0: nobody has */
};

struct head {
	uint32_t nchunks;
	pthread_mutex_t joining;
	_Atomic uint32_t nplaces;
	_Atomic uint32_t top;  /* no chunk from here on was ever used */
	_Atomic int32_t nwarm; /* about */
	_Atomic uint32_t nused;
	/* No chunk below the lower half is free; the upper counts frees. */
	_Atomic uint64_t lowest;
	_Atomic uint32_t generation; /* of objects */
	struct member members[FZ_HEAP_MEMBERS];
};

/* With fz_heap_base, this process's view of the shared heap. */
extern struct fz_heap {
	_Atomic uint64_t *owners;
	unsigned char *chunks;
	size_t size;
	int fd; /* -1 once it is mapped, where the kernel lets us do without */
	int bell;
	uint32_t self;        /* 0: no member */
	unsigned char *cells; /* the own chunk of these; NULL: none */
	size_t next_cell;     /* the first of it that may be free */
	struct fz_ref dropped;
	unsigned nholders;
	int64_t sweep_ns; /* when to look for dead members again */
	pid_t failed;     /* who could not open it, 0: nobody */
} fz_heap;

static inline struct head *
heap_head(void)
{
	return (struct head *)(void *)fz_heap_base;
}

static inline uint64_t
owner_word(uint32_t whose, uint32_t n)
{
	return (uint64_t)whose << 32 | n;
}

static inline uint32_t
whose(uint64_t owner)
{
	return (uint32_t)(owner >> 32);
}

static inline bool
is_free(uint64_t owner)
{
	return whose(owner) == COLD || whose(owner) == WARM;
}

static inline uint32_t
chunk_number(const void *at)
{
	return (uint32_t)((size_t)((const unsigned char *)at - fz_heap.chunks) /
			  CHUNK);
}

static inline unsigned char *
chunk_at(uint32_t i)
{
	return fz_heap.chunks + (size_t)i * CHUNK;
}

static inline struct fz_object *
cell_at(unsigned char *chunk, size_t i)
{
	return (struct fz_object *)(chunk + i * CELL);
}

static inline struct member *
member_at(uint32_t place)
{
	return &heap_head()->members[place];
}

/* Memory for a part of it, so that touching it cannot fail. 0 or -1, errno. */
int fz_heap_reserve(const void *at, size_t len);

/* A robust mutex in shared memory. 0 or errno. */
int fz_heap_init_lock(pthread_mutex_t *mutex);

/* Lock one whose last owner may be dead: what it guards is always whole. */
int fz_heap_lock(pthread_mutex_t *mutex, bool wait);

/* Whether the process of a member, whose lock the caller has, still lives. */
bool fz_heap_runs(const struct member *m);

/* Have the next search for chunks begin at `i` or before it. */
void fz_heap_search_from(uint32_t i);

/* Some with memory, and such as may have none or will not be needed. */
void fz_heap_free_chunks(uint32_t i, uint32_t n);
void fz_heap_drop_chunks(uint32_t i, uint32_t n);

/*
 * A place whose member is dead, locked; NULL: there is none. Where there is no
 * other place either it waits for that of one that has died just now.
 */
struct member *fz_heap_dead_place(uint32_t *place);

/* Free what members had that have been dead for a while. */
void fz_heap_sweep_dead(void);

#endif
