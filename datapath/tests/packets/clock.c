/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Time passes: all that the programs wrote down becomes older, by as many seconds as the packet's mark says and as many
 * ticks of flows as its priority. In place: no entry is used, moved or pushed out by it. For `clock.rs`, which loads it
 * onto the maps of the programs.
 */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

#define UNUSED __attribute__((unused))
#define SECOND 1000000000ULL

/* As `datapath_common` has them; of keys only the size is said. */
struct tuple {
	fabric_u32 words[11];
};

struct connection {
	fabric_u32 seen;
	fabric_u32 others[2];
};

struct flow {
	fabric_u32 others[22];
	fabric_u32 told;
	fabric_u32 seal[2];
};

struct limit {
	fabric_u32 words[2];
};

struct bucket {
	fabric_u64 tokens;
	fabric_u64 filled;
};

struct passed {
	fabric_u64 nanoseconds;
	fabric_u32 seconds;
	fabric_u32 ticks;
};

/* There is more room in them: what is pinned is taken. */
FABRIC_MAP(CONNECTIONS, FABRIC_HASH, struct tuple, struct connection, 1);
FABRIC_MAP(HALF_OPEN, FABRIC_LRU_HASH, struct tuple, struct connection, 1);
FABRIC_MAP(CROWDED, FABRIC_LRU_HASH, struct tuple, struct connection, 1);
FABRIC_MAP(FLOWS, FABRIC_LRU_HASH, struct tuple, struct flow, 1);
FABRIC_MAP(LIMITS, FABRIC_LRU_HASH, struct limit, struct bucket, 1);

static long (*const each)(void *map, void *callback, void *context, fabric_u64 flags) = (void *)164;

static long age_connection(void *map UNUSED, const void *key UNUSED, struct connection *value, struct passed *by)
{
	value->seen -= by->seconds;
	return 0;
}

static long age_flow(void *map UNUSED, const void *key UNUSED, struct flow *value, struct passed *by)
{
	value->told -= by->ticks;
	return 0;
}

static long age_bucket(void *map UNUSED, const void *key UNUSED, struct bucket *value, struct passed *by)
{
	value->filled = value->filled > by->nanoseconds ? value->filled - by->nanoseconds : 0;
	return 0;
}

FABRIC_FUNCTION
int pass_time(struct __sk_buff *skb)
{
	struct passed by = {
		.nanoseconds = skb->mark * SECOND,
		.seconds = skb->mark,
		.ticks = skb->priority,
	};

	each(&CONNECTIONS, age_connection, &by, 0);
	each(&HALF_OPEN, age_connection, &by, 0);
	each(&CROWDED, age_connection, &by, 0);
	each(&FLOWS, age_flow, &by, 0);
	each(&LIMITS, age_bucket, &by, 0);
	return 0;
}
