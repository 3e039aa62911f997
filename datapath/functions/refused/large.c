/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: its map takes more memory than a function may. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

FABRIC_MAP(LARGE, FABRIC_ARRAY, fabric_u32, fabric_u64, 1 << 24);

FABRIC_FUNCTION
int hoard(struct __sk_buff *skb)
{
	fabric_u32 key = 0;

	(void)skb;
	return fabric_map_lookup(&LARGE, &key) ? FABRIC_NEXT : FABRIC_DROP;
}
