/* madvise is an extension of Linux. */
#define _GNU_SOURCE
#include "shared/heap.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/err.h"
#include "shared/heap_state.h"

/* maximum number of free blocks that keep their memory */
#define WARM_MAX 4096

void
fz_heap_search_from(uint32_t i)
{
	_Atomic uint64_t *lowest = &heap_head()->lowest;
	uint64_t before = atomic_load(lowest), after;

	do {
		uint32_t least = (uint32_t)before < i ? (uint32_t)before : i;

		after = ((before >> 32) + 1) << 32 | least;
	} while (!atomic_compare_exchange_weak(lowest, &before, after));
}

/*
 * Free `n` blocks, from the last one on: if this process is killed meanwhile,
 * the rest can be found through the first one.
 */
static void
set_free(uint32_t i, uint32_t n, uint32_t state)
{
	if (state == WARM)
		atomic_fetch_add(&heap_head()->nwarm, (int32_t)n);
	atomic_fetch_sub(&heap_head()->nused, n);
	while (n-- > 0)
		atomic_store(&heap->owners[i + n], owner_word(state, 0));
	fz_heap_search_from(i);
}

static bool
punch(uint32_t i, uint32_t n)
{
	return madvise(block_at(i), n * BLOCK, MADV_REMOVE) == 0;
}

void
fz_heap_free_blocks(uint32_t i, uint32_t n)
{
	bool full = atomic_load(&heap_head()->nwarm) + (int32_t)n > WARM_MAX;

	set_free(i, n, full && punch(i, n) ? COLD : WARM);
}

void
fz_heap_drop_blocks(uint32_t i, uint32_t n)
{
	punch(i, n);
	set_free(i, n, COLD);
}

/* Take block `i` if it is free. Sets `*cold` if the block has no memory. */
static bool
take_block(uint32_t i, uint32_t self, bool *cold)
{
	struct head *head = heap_head();
	uint64_t before = atomic_load(&heap->owners[i]);

	if (!is_free(before) ||
	    !atomic_compare_exchange_strong(
		&heap->owners[i], &before, owner_word(self, 0)))
		return false;
	atomic_fetch_add(&head->nused, 1);
	if (owner_of(before) == WARM)
		atomic_fetch_sub(&head->nwarm, 1);
	else
		*cold = true;
	return true;
}

/*
 * Reserve memory for the owner words of all blocks below `top`. 0, or -1 and
 * errno.
 */
static int
raise_top(uint32_t top)
{
	struct head *head = heap_head();
	uint32_t before = atomic_load(&head->top);

	if (before < top && fz_heap_reserve(&heap->owners[before],
				(top - before) * sizeof(uint64_t)) != 0)
		return -1;
	while (before < top &&
	       !atomic_compare_exchange_weak(&head->top, &before, top))
		continue;
	return 0;
}

/*
 * Take the `n` blocks from `i` on. Returns 1; 0 if some are not free; -1 with
 * errno. `*got`: number of free blocks found.
 */
static int
take_row_at(uint32_t self, uint32_t i, uint32_t n, uint32_t *got)
{
	bool cold = false;
	int code;

	*got = 0;
	if (raise_top(i + n) != 0)
		return -1;
	while (*got < n && take_block(i + *got, self, &cold))
		++*got;
	if (*got == n &&
	    (!cold || fz_heap_reserve(block_at(i), n * BLOCK) == 0))
		return 1;
	code = errno;
	if (cold)
		fz_heap_drop_blocks(i, *got);
	else
		fz_heap_free_blocks(i, *got);
	errno = code;
	return *got == n ? -1 : 0;
}

/* Number of adjacent free blocks from block `i` on, at most `n`. */
static uint32_t
free_row(uint32_t i, uint32_t n)
{
	uint32_t k = 0, top = atomic_load(&heap_head()->top);

	while (k < n &&
	       (i + k >= top || is_free(atomic_load(&heap->owners[i + k]))))
		k++;
	return k;
}

/*
 * Take `n` adjacent blocks at or after block `i`. Sets `*at` to the first.
 * Returns 1; 0 if there are none; -1 with errno.
 */
static int
take_row_from(uint32_t self, uint32_t i, uint32_t n, uint32_t *at)
{
	uint32_t got = 0, end = heap_head()->nblocks;

	while (n <= end && i <= end - n) {
		uint32_t k = free_row(i, n);
		int rc = 0;

		if (k == n)
			rc = take_row_at(self, i, n, &got);
		if (rc == 1)
			*at = i;
		if (rc != 0)
			return rc;
		i += k == n ? got + 1 : k + 1;
	}
	return 0;
}

/*
 * Take `n` adjacent blocks. 0, or -1 with errno.
 *
 * A single block is the first free one, so the next search begins after it
 * (`lowest`) unless a block was freed meanwhile. A process may be killed before
 * it lowers `lowest` for a block that it freed. That block is found when memory
 * is short, or when the blocks of the process are reclaimed.
 */
static int
take_row(uint32_t self, uint32_t n, uint32_t *at)
{
	_Atomic uint64_t *lowest = &heap_head()->lowest;
	uint64_t before = atomic_load(lowest);
	int rc = take_row_from(self, (uint32_t)before, n, at);

	if (rc == 1 && n == 1)
		atomic_compare_exchange_strong(lowest, &before,
		    (before & ~(uint64_t)UINT32_MAX) | (*at + 1));
	if (rc == 0)
		rc = take_row_from(self, 0, n, at);
	if (rc == 0)
		errno = ENOMEM;
	return rc == 1 ? 0 : -1;
}

void *
fz_heap_take_blocks(uint32_t self, size_t size, struct fz_err *err)
{
	uint32_t n = (uint32_t)((size + BLOCK - 1) / BLOCK), i = 0;

	if (n == 0)
		n = 1;
	errno = ENOMEM;
	if (size > heap->size || take_row(self, n, &i) != 0) {
		fz_err_sys(err, errno, "not enough memory for a shared object");
		return NULL;
	}
	atomic_store(&heap->owners[i], owner_word(self, n));
	return block_at(i);
}

static uint32_t
block_count(const void *blocks)
{
	return (uint32_t)atomic_load(&heap->owners[block_number(blocks)]);
}

static void
set_owner(void *blocks, uint32_t owner)
{
	uint32_t i = block_number(blocks), n = block_count(blocks);

	for (uint32_t k = 0; k < n; k++)
		atomic_store(
		    &heap->owners[i + k], owner_word(owner, k == 0 ? n : 0));
}

void
fz_heap_own(void *blocks, uint32_t self)
{
	set_owner(blocks, self);
}

void
fz_heap_set_owner(void *blocks, struct fz_object *object)
{
	/*
	 * Set `owns` before the owner. If this process is killed between the
	 * two stores, fz_heap_free() will only search in vain. In the other
	 * order, the blocks would leak.
	 */
	if (object != blocks && !atomic_load(&object->owns))
		atomic_store(&object->owns, 1);
	set_owner(blocks, OBJECT_BIT | fz_heap_name(object));
}

void
fz_heap_trim(void *blocks, size_t size)
{
	uint32_t i = block_number(blocks), n = block_count(blocks);
	uint32_t self = owner_of(atomic_load(&heap->owners[i]));
	uint32_t keep = (uint32_t)((size + BLOCK - 1) / BLOCK);

	if (keep == 0)
		keep = 1;
	if (keep >= n)
		return;
	atomic_store(&heap->owners[i], owner_word(self, keep));
	fz_heap_free_blocks(i + keep, n - keep);
}

void
fz_heap_give_back(void *blocks)
{
	fz_heap_free_blocks(block_number(blocks), block_count(blocks));
}

size_t
fz_heap_capacity(const void *blocks)
{
	return block_count(blocks) * BLOCK;
}

size_t
fz_heap_used(void)
{
	return heap->base != NULL ? atomic_load(&heap_head()->nused) * BLOCK
				  : 0;
}
