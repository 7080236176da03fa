import { registerPointPicker } from "./point_picker/host/extension.js";

registerPointPicker();
