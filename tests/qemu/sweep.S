/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that is one boot sector. Each of up to two CPUs writes a number to the first and
 * the last word of every page of its part of memory, in order, then the next number.
 *
 * At any one time the first pages of a part, up to where its CPU is, hold one number and
 * the others the number before it. ESP is the number, EDI the page.
 *
 * How long the writes took is in the first page of the part: for each of the last rounds
 * its number, the longest write and the sum of all, in units of 256 ticks.
 */
#define PART_0		0x100000
#define PART_1		0x800000
#define PART_END	0xf00000
#define SUM		8
#define RECORD		64
#define ROUNDS		128
#define TRAMPOLINE	0x8000
#define LAPIC_ICR	0xfee00300

	.code16
	.globl	_start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$_start, %sp
	ljmp	$0, $1f
1:	inb	$0x92, %al		/* address line 20 */
	orb	$2, %al
	outb	%al, $0x92
	cld
	movw	$trampoline, %si
	movw	$TRAMPOLINE, %di
	movw	$(trampoline_end - trampoline), %cx
	rep movsb
	movl	$PART_0, %ebx
	movl	$PART_1, %esi
	jmp	protected

	/* Where the second CPU begins. Jumps to what does not move. */
trampoline:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movl	$PART_1, %ebx
	movl	$PART_END, %esi
	ljmp	$0, $protected
trampoline_end:

protected:
	lgdt	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmp	$8, $flat

	.code32
flat:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	cmpl	$PART_0, %ebx
	jne	sweep
	movl	$0x000c4500, LAPIC_ICR	/* INIT to all others, */
	movl	$0x1000000, %ecx
1:	loop	1b
	movl	$(0x000c4600 + TRAMPOLINE / 4096), LAPIC_ICR	/* and go */
sweep:
	movl	$1, %esp
	movl	%ebx, %edi
2:	rdtsc
	shrdl	$8, %edx, %eax
	movl	%eax, %ecx
	movl	%esp, (%edi)
	rdtsc
	shrdl	$8, %edx, %eax
	subl	%ecx, %eax
	addl	%eax, SUM(%ebx)
	cmpl	%ebp, %eax
	jbe	3f
	movl	%eax, %ebp
3:	movl	%esp, 4092(%edi)
	addl	$4096, %edi
	cmpl	%esi, %edi
	jb	2b
	movl	%esp, %ecx
	andl	$(ROUNDS - 1), %ecx
	shll	$4, %ecx
	addl	%ebx, %ecx
	movl	%esp, RECORD(%ecx)
	movl	%ebp, RECORD + 4(%ecx)
	movl	SUM(%ebx), %eax
	movl	%eax, RECORD + 8(%ecx)
	xorl	%ebp, %ebp
	movl	%ebp, SUM(%ebx)
	/* In one go, or a snapshot may see one without the other */
	incl	%esp
	movl	%ebx, %edi
	jmp	2b

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9a000000ffff	/* code */
	.quad	0x00cf92000000ffff	/* data */
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
