/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: a map that is pinned by its name could be another one's. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

struct {
	int(*type)[FABRIC_ARRAY];
	int(*max_entries)[1];
	int(*pinning)[1];
	fabric_u32 *key;
	fabric_u64 *value;
} FLOWS __attribute__((section(".maps"), used));

FABRIC_FUNCTION
int spoof(struct __sk_buff *skb)
{
	fabric_u32 key = 0;

	(void)skb;
	return fabric_map_lookup(&FLOWS, &key) ? FABRIC_NEXT : FABRIC_DROP;
}
