/* fallocate is no part of C. */
#define _GNU_SOURCE
#include "os/commons.h"

#include <errno.h>
#include <fcntl.h>

#include "base/err.h"
#include "os/commons_state.h"

#define WARM_MAX ((256 << 20) / (64 << 10)) /* chunks kept with their memory \
					     */

void
fz_commons_free_chunks(uint32_t i, uint32_t n)
{
	struct head *head = fz_commons.head;
	uint32_t state = WARM;

	if (atomic_load(&head->nwarm) + n > WARM_MAX &&
	    fallocate(fz_commons.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)(chunk_at(i) - (unsigned char *)head),
		(off_t)(n * CHUNK)) == 0)
		state = COLD;
	if (state == WARM)
		atomic_fetch_add(&head->nwarm, n);
	atomic_fetch_sub(&head->nused, n);
	while (n-- > 0)
		atomic_store(&fz_commons.owners[i + n], owner_word(state, 0));
}

/* Claim chunk `i` if it is free; then `*cold` says whether it has no memory. */
static bool
claim_chunk(uint32_t i, bool *cold)
{
	struct head *head = fz_commons.head;
	uint64_t before = atomic_load(&fz_commons.owners[i]);

	if (!is_free(before) ||
	    !atomic_compare_exchange_strong(
		&fz_commons.owners[i], &before, owner_word(fz_commons.self, 0)))
		return false;
	atomic_fetch_add(&head->nused, 1);
	if (whose(before) == WARM)
		atomic_fetch_sub(&head->nwarm, 1);
	else
		*cold = true;
	return true;
}

static void
raise_top(uint32_t top)
{
	uint32_t before = atomic_load(&fz_commons.head->top);

	while (before < top && !atomic_compare_exchange_weak(
				   &fz_commons.head->top, &before, top))
		continue;
}

/* Claim `n` chunks from `i` on, with memory. 1, 0 where not all are free, -1 */
static int
claim_row(uint32_t i, uint32_t n, uint32_t *got)
{
	bool cold = false;

	raise_top(i + n);
	for (*got = 0; *got < n && claim_chunk(i + *got, &cold); ++*got)
		continue;
	if (*got == n &&
	    (!cold || fz_commons_reserve(chunk_at(i), n * CHUNK) == 0))
		return 1;
	fz_commons_free_chunks(i, *got);
	return *got == n ? -1 : 0;
}

/* How many free ones begin at `i`, at most `n`. */
static uint32_t
free_row(uint32_t i, uint32_t n)
{
	uint32_t k = 0;

	while (k < n && is_free(atomic_load(&fz_commons.owners[i + k])))
		k++;
	return k;
}

static int
take_row(uint32_t n, uint32_t *at)
{
	uint32_t i = 0, got = 0, end = fz_commons.head->nchunks;

	while (n <= end && i <= end - n) {
		uint32_t k = free_row(i, n);
		int rc = 0;

		if (k == n)
			rc = claim_row(i, n, &got);
		if (rc == 1) {
			*at = i;
			return 0;
		}
		if (rc == -1)
			return -1;
		i += k == n ? got + 1 : k + 1;
	}
	errno = ENOMEM;
	return -1;
}

void *
fz_commons_take(size_t size, struct fz_err *err)
{
	uint32_t n, i = 0;

	if (fz_commons_self(err) == 0)
		return NULL;
	if (size > fz_commons.size) {
		fz_err_nomem(err, "something shared");
		return NULL;
	}
	n = (uint32_t)((size + CHUNK - 1) / CHUNK);
	if (n == 0)
		n = 1;
	if (take_row(n, &i) != 0) {
		fz_commons_sweep_dead();
		if (take_row(n, &i) != 0) {
			fz_err_sys(
			    err, errno, "no memory for something shared");
			return NULL;
		}
	}
	atomic_store(&fz_commons.owners[i], owner_word(fz_commons.self, n));
	return chunk_at(i);
}

static uint32_t
chunk_count(const void *chunks)
{
	return (uint32_t)atomic_load(&fz_commons.owners[chunk_number(chunks)]);
}

void
fz_commons_own(void *chunks, const struct fz_object *object)
{
	uint32_t i = chunk_number(chunks), n = chunk_count(chunks);
	uint32_t owner = object != NULL ? OBJECT_BIT | fz_commons_name(object)
					: fz_commons.self;

	for (uint32_t k = 0; k < n; k++)
		atomic_store(&fz_commons.owners[i + k],
		    owner_word(owner, k == 0 ? n : 0));
}

void
fz_commons_trim(void *chunks, size_t size)
{
	uint32_t i = chunk_number(chunks), n = chunk_count(chunks);
	uint32_t keep = (uint32_t)((size + CHUNK - 1) / CHUNK);

	if (keep == 0)
		keep = 1;
	if (keep >= n)
		return;
	atomic_store(&fz_commons.owners[i], owner_word(fz_commons.self, keep));
	fz_commons_free_chunks(i + keep, n - keep);
}

void
fz_commons_give(void *chunks)
{
	fz_commons_free_chunks(chunk_number(chunks), chunk_count(chunks));
}

size_t
fz_commons_room(const void *chunks)
{
	return chunk_count(chunks) * CHUNK;
}

size_t
fz_commons_used(void)
{
	return fz_commons.head != NULL
		   ? atomic_load(&fz_commons.head->nused) * CHUNK
		   : 0;
}
