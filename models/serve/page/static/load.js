export function startLoad() {}
