/* mremap, madvise and MAP_ANONYMOUS are Linux. */
#define _GNU_SOURCE
#include "os/alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/slab.h"

/*
 * Whether slabs hold the blocks of `size` bytes. Under a memory checker the
 * small blocks come from malloc, too, because the checker must see each block.
 */
static bool
is_small(size_t size)
{
#if defined(__SANITIZE_ADDRESS__) || defined(FZ_VALGRIND)
	(void)size;
	return false;
#else
	return size - 1 < FZ_SLAB_MAX; /* false for 0, which wraps */
#endif
}

enum { KEPT_BLOCKS_MAX = 16 };             /* maximum number of kept blocks */
#define HUGE_PAGE ((size_t)2 << 20)        /* bytes of one huge page */
#define KEPT_BYTES_MAX ((size_t)256 << 20) /* maximum number of kept bytes */

struct kept_block {
	void *at;
	size_t bytes;
};

static struct kept_block kept[KEPT_BLOCKS_MAX]; /* oldest block first */
static size_t nkept, kept_bytes;
static unsigned long turnover;

static size_t
round_up(size_t size, size_t step)
{
	return (size + step - 1) & ~(step - 1);
}

/*
 * Bytes by which the heap of malloc grows before it gets huge pages. A fork
 * copies one entry per page, so huge pages make the fork faster if the heap is
 * long; a small script would not fill one huge page.
 */
#define GROWTH_STEP ((size_t)8 << 20)

/* End of the heap of malloc at the last check; 0: not checked yet. */
static uintptr_t known_end;

/* Called when malloc has returned a block beyond `known_end`. */
static void
on_heap_growth(uintptr_t block)
{
	uintptr_t end = (uintptr_t)sbrk(0);

	if (known_end == 0) {
		known_end = end + GROWTH_STEP;
		return;
	}
	if (block >= end)
		/* the block is from mmap(), or from a heap of another thread */
		return;
	mallopt(M_TOP_PAD, GROWTH_STEP);
	mallopt(M_TRIM_THRESHOLD, 2 * GROWTH_STEP);
	/*
	 * Start at the end of the last growth, so that no huge page is left
	 * out.
	 */
	if (known_end < end)
		madvise((void *)known_end, end - known_end, MADV_HUGEPAGE);
	known_end = end;
}

static void *
medium_resize(void *block, size_t size)
{
	void *p = realloc(block, size);

	if ((uintptr_t)p >= known_end && p != NULL)
		on_heap_growth((uintptr_t)p);
	return p;
}

/*
 * Bytes allocated for a block of `size` bytes: four sizes for each power of
 * two, and whole huge pages if the last huge page is more than half used.
 */
static size_t
block_bytes(size_t size)
{
	size_t bytes =
	    round_up(size, (size_t)1 << (61 - __builtin_clzll(size)));

	return bytes % HUGE_PAGE > HUGE_PAGE / 2 ? round_up(bytes, HUGE_PAGE)
						 : bytes;
}

/* In a child: forget the kept blocks, which are not mapped there. */
static void
in_child(void)
{
	nkept = kept_bytes = 0;
}

static void
remove_kept(size_t i)
{
	kept_bytes -= kept[i].bytes;
	nkept--;
	memmove(&kept[i], &kept[i + 1], (nkept - i) * sizeof(kept[0]));
}

static void
unmap_oldest(void)
{
	munmap(kept[0].at, kept[0].bytes);
	remove_kept(0);
}

/* Reuse the kept block of this size that was freed last; NULL: none. */
static void *
reuse_kept(size_t bytes)
{
	for (size_t i = nkept; i-- > 0;) {
		void *at = kept[i].at;

		if (kept[i].bytes != bytes)
			continue;
		if (madvise(at, bytes, MADV_DOFORK) != 0)
			return NULL;
		remove_kept(i);
		turnover++;
		return at;
	}
	return NULL;
}

/*
 * A new block, of which the caller writes `size` bytes at once. One call that
 * populates the pages is cheaper than a page fault for each of them.
 */
static void *
big_new(size_t size)
{
	size_t bytes = block_bytes(size);
	void *at = reuse_kept(bytes);

	if (at == NULL)
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	if (bytes >= HUGE_PAGE) /* a smaller block is slower in a huge page */
		madvise(at, bytes, MADV_HUGEPAGE);
	madvise(at, size, MADV_POPULATE_WRITE);
	return at;
}

/*
 * Whether blocks may be kept. Without the fork handler a child might use a kept
 * block, which is not mapped there.
 */
static bool
may_keep(void)
{
	static int rc = -1;

	if (rc == -1)
		rc = pthread_atfork(NULL, NULL, in_child);
	return rc == 0;
}

static void
big_free(void *at, size_t bytes)
{
	if (bytes > KEPT_BYTES_MAX || !may_keep() ||
	    madvise(at, bytes, MADV_DONTFORK) != 0) {
		munmap(at, bytes);
		return;
	}
	while (nkept == KEPT_BLOCKS_MAX || kept_bytes + bytes > KEPT_BYTES_MAX)
		unmap_oldest();
	kept[nkept++] = (struct kept_block){ at, bytes };
	kept_bytes += bytes;
	turnover++;
}

static void *
big_resize(void *at, size_t old, size_t bytes)
{
	void *p = NULL;

	if (old == bytes)
		return at;
	if (bytes > old)
		p = reuse_kept(bytes);
	if (p != NULL) {
		memcpy(p, at, old);
		big_free(at, old);
		return p;
	}
	p = mremap(at, old, bytes, MREMAP_MAYMOVE);
	return p != MAP_FAILED ? p : NULL;
}

static void *
new_block(size_t size)
{
	if (is_small(size))
		return fz_slab_alloc(size);
	if (size == 0 || size > PTRDIFF_MAX)
		return NULL;
	return size < FZ_ALLOC_BIG ? medium_resize(NULL, size) : big_new(size);
}

static void
free_block(void *block, size_t size)
{
	if (is_small(size))
		fz_slab_free(block);
	else if (size < FZ_ALLOC_BIG)
		free(block);
	else
		big_free(block, block_bytes(size));
}

/* Move the contents to a new block of another kind or size class. */
static void *
move_block(void *block, size_t old_size, size_t size)
{
	void *p = new_block(size);

	if (p == NULL)
		return NULL;
	memcpy(p, block, old_size < size ? old_size : size);
	free_block(block, old_size);
	return p;
}

/*
 * Copy whole units of FZ_SLAB_UNIT bytes. A block consists of such units, so
 * the loop needs few instructions.
 */
static void
copy_units(void *to, const void *from, size_t size)
{
	for (size_t i = 0; i < size; i += FZ_SLAB_UNIT)
		memcpy((char *)to + i, (const char *)from + i, FZ_SLAB_UNIT);
}

/* Resize a small block. Tables of up to 64 elements grow in such blocks. */
static void *
small_resize(void *block, size_t old_size, size_t size)
{
	void *p;

	if (fz_slab_class(old_size) == fz_slab_class(size))
		return block;
	p = fz_slab_alloc(size);
	if (p == NULL)
		return NULL;
	copy_units(p, block, old_size < size ? old_size : size);
	fz_slab_free(block);
	return p;
}

static void *
resize(void *block, size_t old_size, size_t size)
{
	if (is_small(old_size) && is_small(size))
		return small_resize(block, old_size, size);
	if (is_small(old_size) || is_small(size))
		return move_block(block, old_size, size);
	if (old_size < FZ_ALLOC_BIG && size < FZ_ALLOC_BIG)
		return medium_resize(block, size);
	if (old_size >= FZ_ALLOC_BIG && size >= FZ_ALLOC_BIG)
		return big_resize(
		    block, block_bytes(old_size), block_bytes(size));
	return move_block(block, old_size, size);
}

static void *
allocate(void *block, size_t old_size, size_t size)
{
	if (block == NULL)
		return new_block(size);
	return size <= PTRDIFF_MAX ? resize(block, old_size, size) : NULL;
}

void *
fz_alloc_alloc(void *ud, void *block, size_t old_size, size_t size)
{
	void *p;

	(void)ud;
	if (block == NULL && is_small(size)) {
		/* old_size is here the type of the object, see lua_Alloc */
		p = fz_slab_alloc(size);
		if (p != NULL)
			return p;
	}
	if (size == 0) {
		if (block != NULL)
			free_block(block, old_size);
		return NULL;
	}
	p = allocate(block, old_size, size);
	if (p != NULL || fz_alloc_kept() == 0)
		return p;
	fz_alloc_trim(); /* kept blocks count towards a memory limit */
	return allocate(block, old_size, size);
}

size_t
fz_alloc_kept(void)
{
	return kept_bytes + fz_slab_idle();
}

unsigned long
fz_alloc_turnover(void)
{
	return turnover;
}

void
fz_alloc_trim(void)
{
	while (nkept != 0)
		unmap_oldest();
	fz_slab_trim();
}
