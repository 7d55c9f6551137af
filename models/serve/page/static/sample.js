// What "Load the sample" shows: right answers in words, in code and in Chinese, and passages that share only words with the query.

export const sample = {
  query: "How do I reverse a slice in place?",
  passages: [
    "Sort sorts a slice of any ordered type in ascending order.",
    "Reverse reverses the elements of the slice in place.",
    "A slice of bread keeps longest in a cool, dry place.",
    "for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 { s[i], s[j] = s[j], s[i] }",
    "Repeat returns a new slice that repeats the provided slice the given number of times.",
    "To undo the last commit in place, use git revert.",
    "原地反转切片:交换首尾元素,直到中间相遇。",
    "Backward returns an iterator over index-value pairs in the slice, traversing it with descending indices.",
    "Reversing a string needs care: an emoji such as 👩‍💻 is several code points.",
    "Put the car in reverse and look over your shoulder.",
  ],
  positives: [
    "Reverse reverses the elements of the slice in place.",
    "for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 { s[i], s[j] = s[j], s[i] }",
    "原地反转切片:交换首尾元素,直到中间相遇。",
  ],
};
