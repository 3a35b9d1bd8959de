#include "base/hash.h"

#include <string.h>

/* xxhash is compiled in, so that programs do not need its library. */
#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct fz_hash) &&
		   alignof(XXH3_state_t) <= alignof(struct fz_hash),
    "the state of XXH3 has another size");

static XXH3_state_t *
state_of(struct fz_hash *hash)
{
	return (void *)hash->state;
}

void
fz_hash_init(struct fz_hash *hash)
{
	memset(hash, 0, sizeof(*hash));
	XXH3_INITSTATE(state_of(hash));
	XXH3_128bits_reset(state_of(hash));
}

void
fz_hash_add(struct fz_hash *hash, const void *bytes, size_t len)
{
	if (len != 0)
		XXH3_128bits_update(state_of(hash), bytes, len);
}

static void
store(XXH128_hash_t value, unsigned char out[FZ_HASH_BYTES])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, value);
	memcpy(out, &canonical, FZ_HASH_BYTES);
}

void
fz_hash_end(const struct fz_hash *hash, unsigned char out[FZ_HASH_BYTES])
{
	store(XXH3_128bits_digest((const void *)hash->state), out);
}

void
fz_hash_bytes(const void *bytes, size_t len, unsigned char out[FZ_HASH_BYTES])
{
	store(XXH3_128bits(bytes, len), out);
}
