/*
 * seed.h - random seeds derived from one seed, by SplitMix64 (Steele, Lea,
 * Flood).
 */
#ifndef FZ_SEED_H
#define FZ_SEED_H

#include <stdint.h>

/* Seed number `n` of the sequence that begins with `seed`. */
static inline uint64_t
fz_seed_mix(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

#endif
