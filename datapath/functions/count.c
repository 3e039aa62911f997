/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* As count.rs: counts what it is asked, and keeps the words of the last time it was. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

struct seen {
	fabric_u64 packets;
	fabric_u32 words[5];
	/* The first bytes of the workload's frame: whom it is to. */
	fabric_u8 to[4];
};

FABRIC_MAP(SEEN, FABRIC_ARRAY, fabric_u32, struct seen, 1);

FABRIC_FUNCTION
int count(struct __sk_buff *skb)
{
	fabric_u32 key = 0;
	struct seen *seen = fabric_map_lookup(&SEEN, &key);

	if (!seen)
		return FABRIC_NEXT;
	__sync_fetch_and_add(&seen->packets, 1);
	seen->words[0] = skb->cb[0];
	seen->words[1] = fabric_domain(skb);
	seen->words[2] = fabric_endpoint(skb);
	seen->words[3] = fabric_flow_hash(skb);
	seen->words[4] = fabric_frame(skb);
	fabric_load(skb, fabric_frame(skb), seen->to, sizeof(seen->to));
	return FABRIC_NEXT;
}
