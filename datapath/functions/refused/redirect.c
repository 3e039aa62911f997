/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: it calls a helper that sends packets elsewhere. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

static long (*const redirect)(fabric_u32 ifindex, fabric_u64 flags) = (void *)23;

FABRIC_FUNCTION
int spoof(struct __sk_buff *skb)
{
	return redirect(skb->ifindex, 0);
}
