/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What a third-party function of a Fabric domain is written with, in C. The same interface as the Rust crate beside it;
 * `README.md` is the contract. It needs nothing but clang:
 *
 *     clang -O2 -g -target bpf -I datapath/sdk/include -c function.c -o function.o
 */
#ifndef FABRIC_FUNCTION_H
#define FABRIC_FUNCTION_H

typedef unsigned char fabric_u8;
typedef unsigned short fabric_u16;
typedef unsigned int fabric_u32;
typedef unsigned long long fabric_u64;

/* The kernel's context (include/uapi/linux/bpf.h) up to where a function may look. */
#if !defined(__LINUX_BPF_H__) && !defined(_UAPI__LINUX_BPF_H__)
struct __sk_buff {
	fabric_u32 len;
	fabric_u32 pkt_type;
	fabric_u32 mark;
	fabric_u32 queue_mapping;
	fabric_u32 protocol;
	fabric_u32 vlan_present;
	fabric_u32 vlan_tci;
	fabric_u32 vlan_proto;
	fabric_u32 priority;
	fabric_u32 ingress_ifindex;
	fabric_u32 ifindex;
	fabric_u32 tc_index;
	fabric_u32 cb[5];
	fabric_u32 hash;
	fabric_u32 tc_classid;
	fabric_u32 data;
	fabric_u32 data_end;
};
#endif

/* Version of the interface. It is provisional: another version may mean anything else. */
#define FABRIC_VERSION 1

/* What a function returns. Any other value is a failure. */
#define FABRIC_NEXT 0
#define FABRIC_DROP 1

/* Why a function is asked: a flow's way is being decided; a packet passes. */
#define FABRIC_HOOK_FLOW 1
#define FABRIC_HOOK_PACKET 2

/* Which way a packet goes, as the workload on this host sees it; LOCAL: both ends are here, asked once. */
#define FABRIC_EGRESS 1
#define FABRIC_INGRESS 2
#define FABRIC_LOCAL 3

#define fabric_version(skb) ((skb)->cb[0] >> 24)
#define fabric_hook(skb) ((skb)->cb[0] >> 16 & 0xff)
#define fabric_direction(skb) ((skb)->cb[0] >> 8 & 0xff)
/* How many functions of the hook were asked before it. */
#define fabric_position(skb) ((skb)->cb[0] & 0xff)
/* Numbers on this host: of the domain, and of the endpoint that sends (egress, local) or receives (ingress). */
#define fabric_domain(skb) ((skb)->cb[1])
#define fabric_endpoint(skb) ((skb)->cb[2])
/* One value for all packets of one direction of a flow, on every host. */
#define fabric_flow_hash(skb) ((skb)->cb[3])
/* Where the workload's Ethernet frame starts in the packet, in bytes. */
#define fabric_frame(skb) ((skb)->cb[4])

/* Before the one function of an object file, and its licence. */
#define FABRIC_FUNCTION __attribute__((section("classifier"), used))
#define FABRIC_LICENCE(text) char fabric_licence[] __attribute__((section("license"), used)) = text

/* A map of the function's own: FABRIC_MAP(name, FABRIC_ARRAY, fabric_u32, struct value, 16); */
#define FABRIC_HASH 1
#define FABRIC_ARRAY 2
#define FABRIC_PERCPU_HASH 5
#define FABRIC_PERCPU_ARRAY 6
#define FABRIC_LRU_HASH 9
#define FABRIC_LRU_PERCPU_HASH 10
#define FABRIC_LPM_TRIE 11
#define FABRIC_MAP(name, kind, key_type, value_type, entries)                 \
	struct {                                                              \
		int(*type)[kind];                                             \
		int(*max_entries)[entries];                                   \
		key_type *key;                                                \
		value_type *value;                                            \
	} name __attribute__((section(".maps"), used))

/* The helpers that a function may call (bpf-helpers(7)). */
static void *(*const fabric_map_lookup)(void *map, const void *key) = (void *)1;
static long (*const fabric_map_update)(void *map, const void *key, const void *value, fabric_u64 flags) = (void *)2;
static long (*const fabric_map_delete)(void *map, const void *key) = (void *)3;
static fabric_u64 (*const fabric_now)(void) = (void *)5;
static fabric_u32 (*const fabric_random)(void) = (void *)7;
static fabric_u32 (*const fabric_cpu)(void) = (void *)8;
static long (*const fabric_load)(const void *skb, fabric_u32 offset, void *to, fabric_u32 bytes) = (void *)26;
static fabric_u32 (*const fabric_hash)(struct __sk_buff *skb) = (void *)34;
static long (*const fabric_pull)(struct __sk_buff *skb, fabric_u32 bytes) = (void *)39;

#endif
