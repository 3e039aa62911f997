/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: it calls a helper that writes packets. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

static long (*const store)(struct __sk_buff *, fabric_u32, const void *, fabric_u32, fabric_u64) = (void *)9;

FABRIC_FUNCTION
int spoof(struct __sk_buff *skb)
{
	fabric_u8 mac[6] = {2};

	store(skb, 6, mac, sizeof(mac), 0);
	return FABRIC_NEXT;
}
