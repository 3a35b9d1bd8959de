/* MAP_ANONYMOUS is no part of C or POSIX. */
#define _GNU_SOURCE
#include "worker/cell.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/err.h"

#define CELL_SIZE (sizeof(struct fz_cell_own) + sizeof(struct fz_cell))

struct fz_cell *
fz_cell_new(struct fz_err *err)
{
	const int prot = PROT_READ | PROT_WRITE;
	unsigned char *own =
	    mmap(NULL, CELL_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fz_cell *cell;

	if (own == MAP_FAILED) {
		fz_err_sys(err, errno, "mmap");
		return NULL;
	}
	cell = mmap(own + sizeof(struct fz_cell_own), sizeof(*cell), prot,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (cell == MAP_FAILED) {
		fz_err_sys(err, errno, "mmap");
		munmap(own, CELL_SIZE);
		return NULL;
	}
	fz_claim_init(&cell->claim);
	return cell;
}

void
fz_cell_free(struct fz_cell *cell, bool kept)
{
	if (cell == NULL)
		return;
	if (kept)
		munmap(cell, sizeof(*cell));
	else
		munmap(fz_cell_own(cell), CELL_SIZE);
}

bool
fz_cell_keep(struct fz_cell *cell)
{
	/* If one of these fails, a fork only takes longer. */
	madvise(cell, sizeof(*cell), MADV_DONTFORK);
	return munmap(fz_cell_own(cell), sizeof(struct fz_cell_own)) == 0;
}

struct fz_cell_open
fz_cell_open(const struct fz_cell *cell)
{
	return fz_cell_open_of(atomic_load(&cell->open));
}

bool
fz_cell_read(const struct fz_cell *cell, uint64_t *word, uint64_t *seal)
{
	*word = atomic_load(&cell->open);
	*seal = atomic_load(&cell->seals[*word >> 56 & 1]);
	return atomic_load(&cell->open) == *word;
}
