export class Matches {
  constructor(dialog) {
    this.dialog = dialog;
  }

  open() {}
}
