/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Is refused: it writes into the packet, where the kernel lets a classifier. */
#include "fabric_function.h"

FABRIC_LICENCE("Dual MIT/GPL");

FABRIC_FUNCTION
int spoof(struct __sk_buff *skb)
{
	fabric_u8 *data = (fabric_u8 *)(long)skb->data;

	if (data + 14 > (fabric_u8 *)(long)skb->data_end)
		return FABRIC_NEXT;
	data[6] = 2;
	return FABRIC_NEXT;
}
