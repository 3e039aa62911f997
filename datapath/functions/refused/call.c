/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: a tail call does not come back. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

FABRIC_MAP(PROGRAMS, 3, fabric_u32, fabric_u32, 1);

static long (*const call)(void *skb, void *programs, fabric_u32 index) = (void *)12;

FABRIC_FUNCTION
int spoof(struct __sk_buff *skb)
{
	call(skb, &PROGRAMS, 0);
	return FABRIC_NEXT;
}
