/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Lets every packet go on: the least a function can be. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

FABRIC_FUNCTION
int pass(struct __sk_buff *skb)
{
	(void)skb;
	return FABRIC_NEXT;
}
